"""What a feed brings to the devices is what the program of a step says that it takes."""

import jax
import pytest

from gif_jax.core.distributed.mesh import make_mesh
from gif_jax.training import input_pipeline
from gif_jax.training.feed import open_feed
from gif_jax.training.program import make_program

FORMS = {
  'fixed': {},
  'joint': {'joint.enabled': True, 'joint.negatives': 5},
  'joint, rows on devices': {'joint.enabled': True, 'joint.negatives': 5, 'joint.rows': 'device'},
  'softmax': {'softmax.enabled': True},
}


@pytest.mark.parametrize('devices', [1, 8])
@pytest.mark.parametrize('form', FORMS)
def test_a_feed_puts_the_inputs_of_its_program(tiny_config, tiny_faces, tiny_table, tmp_path, form, devices):
  config = tiny_config.copy_and_resolve_references()
  config.update_from_flattened_dict(FORMS[form])
  mesh = make_mesh(jax.devices()[:devices])
  program = make_program(config, tiny_table, 2, mesh)
  feed = open_feed(config, program, tiny_faces.train, tiny_table, mesh, tmp_path)
  size, labels = config.train.batch_size, form != 'fixed'
  stream = input_pipeline.batches(tiny_faces.train, tiny_table, batch_size=size, seed=0, labels=labels)
  batch = feed.put(next(stream))
  stream.close()
  feed.close()
  assert _places(batch) == _places(program.inputs)


def _places(tree):
  leaves, structure = jax.tree.flatten(tree)
  return structure, [(leaf.shape, leaf.dtype, leaf.sharding) for leaf in leaves]
