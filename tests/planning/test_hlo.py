"""Collectives read from programs that are compiled here, whose traffic is known."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from gif_jax.core.distributed.mesh import make_mesh
from gif_jax.planning.hlo import Collective, collectives
from gif_jax.training.cost.flops import multiply_adds


def _compiled(function, split, *shapes):
  mesh = make_mesh(jax.devices())
  mapped = jax.shard_map(function, mesh=mesh, in_specs=split, out_specs=split, check_vma=False)
  where = NamedSharding(mesh, split)
  arguments = [jax.ShapeDtypeStruct(shape, jnp.float32, sharding=where) for shape in shapes]
  return jax.jit(mapped).lower(*arguments).compile().as_text()


def test_a_sum_in_a_loop_counts_as_often_as_it_is_run():
  def function(x):
    return jax.lax.fori_loop(0, 5, lambda i, x: jax.lax.psum(jnp.sin(x), ('data', 'fsdp')), x)

  text = _compiled(function, PartitionSpec(), (16, 3))
  assert collectives(text) == [Collective('all-reduce', 16 * 3 * 4, 5)]


def test_what_a_device_has_in_the_end_or_gives():
  axes = ('data', 'fsdp')
  split = PartitionSpec(axes)

  def gathered(x):
    return jnp.sum(jax.lax.all_gather(x, axes), axis=0)

  def scattered(x):
    return jnp.tile(jax.lax.psum_scatter(x, axes, tiled=True), (8, 1))

  assert collectives(_compiled(gathered, split, (64, 4))) == [Collective('all-gather', 8 * 8 * 4 * 4, 1)]
  (scatter,) = collectives(_compiled(scattered, split, (64, 4)))
  assert (scatter.op, scatter.times) in {('reduce-scatter', 1), ('all-reduce', 1)} and scatter.size == 8 * 4 * 4


def test_one_device_sends_nothing():
  assert collectives(jax.jit(jnp.sin).lower(jnp.ones(3)).compile().as_text()) == []


LINES = """
HloModule m

%body (p: (s32[], bf16[4])) -> (s32[], bf16[4]) {
  %p = (s32[], bf16[4]{0}) parameter(0)
  %g = bf16[4]{0} get-tuple-element(%p), index=1
  %r = (bf16[4]{0}, /*index=1*/f32[2,2]{1,0}) all-reduce-start(%g, %g), replica_groups=[2,4]<=[8], to_apply=%add
  ROOT %t = (s32[], bf16[4]{0}) tuple(%p, %g)
}

ENTRY %main (a: bf16[4]) -> bf16[4] {
  %a = bf16[4]{0:T(256)} parameter(0)
  %w = (s32[], bf16[4]{0}) while(%a), condition=%c, body=%body, backend_config={"known_trip_count":{"n":"3"}}
  %s = f32[2]{0} reduce-scatter(%a), channel_id=1, replica_groups=[2,4]<=[8], dimensions={0}, to_apply=%add
  %h = (u8[8]{0}, u8[64]{0}) all-gather-start(%a), replica_groups={{0,1,2,3}}, dimensions={0}
  ROOT %x = bf16[4]{0} copy(%a), metadata={op_name="jit(f)/all-reduce(x)"}
}
"""


def test_a_text_as_accelerators_have_it():
  assert collectives(LINES) == [
    Collective('all-reduce', 4 * 2 + 4 * 4, 3),
    Collective('all-gather', 64, 1),
    Collective('reduce-scatter', 4 * 2 * 4, 1),
  ]


@pytest.mark.parametrize('count', [1, 8])
def test_products_on_every_device_count_as_often(count):
  mesh = make_mesh(jax.devices()[:count])
  split = PartitionSpec(('data', 'fsdp'))
  mapped = jax.shard_map(lambda a, b: a @ b, mesh=mesh, in_specs=(split, PartitionSpec()), out_specs=split)
  shapes = (jax.ShapeDtypeStruct((16, 5), jnp.float32), jax.ShapeDtypeStruct((5, 7), jnp.float32))
  assert multiply_adds(mapped, *shapes) == 16 * 5 * 7
