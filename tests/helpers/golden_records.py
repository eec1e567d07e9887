"""The records that tests/golden/make_recordio_golden.py wrote."""

import json

from tests.helpers import places

GOLDEN = places.GOLDEN / 'recordio'
EXPECTED = json.loads((GOLDEN / 'expected.json').read_text())
IMAGES = [bytes.fromhex(image) for image in EXPECTED['images']]
