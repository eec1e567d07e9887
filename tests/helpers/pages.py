"""A page of HTML read back: its tables, links, ids, pictures and visible text."""

import html.parser

# What could be taken for HTML, Markdown, TeX or the end of a line.
ODD = '<b>x</b> & "y" | *z* _w_ `v` [u](http://t) $s$ \\ \n ![r](q) 陈 \x00\x85\u2028 \ud800'
_EMPTY = {'meta', 'img', 'br'}


class Page(html.parser.HTMLParser):
  """Raises AssertionError for elements that are not closed in order."""

  def __init__(self, text):
    super().__init__()
    self.open, self.tables, self.links, self.ids, self.pictures, self.tags = [], [], [], [], [], []
    self.text, self.attributes, self.classes = '', [], []
    self.feed(text)
    self.close()
    assert not self.open, self.open

  def handle_starttag(self, tag, attrs):
    found = dict(attrs)
    self.tags.append(tag)
    self.attributes += attrs
    self.ids += [found['id']] if 'id' in found else []
    self.links += [found['href']] if 'href' in found else []
    self.pictures += [found['src']] if tag == 'img' else []
    self.classes += [found['class']] if 'class' in found else []
    if tag == 'table':
      self.tables.append([])
    elif tag == 'tr':
      self.tables[-1].append([])
    elif tag in ('td', 'th'):
      self.tables[-1][-1].append('')
    if tag not in _EMPTY:
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag, tag

  def handle_data(self, data):
    if 'style' not in self.open:
      self.text += data
    if {'td', 'th'} & set(self.open):
      self.tables[-1][-1][-1] += data
