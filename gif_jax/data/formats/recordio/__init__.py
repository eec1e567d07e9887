"""RecordIO: the .rec files that InsightFace's training sets come in, read as Records and written."""

from gif_jax.data.formats.recordio.lists import list_path, people_path
from gif_jax.data.formats.recordio.reader import RecordIO
from gif_jax.data.formats.recordio.report import Report
from gif_jax.data.formats.recordio.writer import RecordWriter, write_insightface

__all__ = ['RecordIO', 'RecordWriter', 'Report', 'list_path', 'people_path', 'write_insightface']
