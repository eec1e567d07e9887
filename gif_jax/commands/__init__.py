"""One module per verb of the program: flags, and a call of what a wing does."""

VERBS = {
  'plan': 'says what a training needs on a machine that is not there',
  'train': 'trains a network, with its table, and evaluates it',
  'tokenize': 'makes an identity-code table, or adds people to one',
  'inspect': 'says how good the codes of a table are',
  'align': 'makes aligned face crops of photographs',
  'convert': 'makes a data set of others: training format, RecordIO, verification pairs',
  'audit': 'looks for what is wrong with data sets',
  'evaluate': 'measures a network, or embeddings made elsewhere, on benchmarks',
}
