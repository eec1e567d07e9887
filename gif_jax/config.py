"""Every setting: its default, one comment, and at least one reader.

An experiment in `configs/` starts from `default()` and changes what it must. Flags (`--config.train.steps=9`) win.
No key defaults to None, so that every key can be set by a flag.
"""

import math

from ml_collections import ConfigDict

from gif_jax.core.errors import ConfigError


def default() -> ConfigDict:
  """All keys with their defaults. Method names (`published`, `fixed`, `joint`): docs/training.md."""
  c = ConfigDict()
  for add in (_data, _augment, _tokenizer, _model, _loss, _joint, _softmax, _optim, _train, _checkpoint, _eval, _log):
    add(c)
  return c


def _data(c: ConfigDict) -> None:
  c.data = ConfigDict()
  c.data.source = 'synthetic'  # rendered; or 'folder' (a sub-folder per person), 'records' (whatever `convert` reads)
  c.data.path = ''  # where a source that reads files finds them; '' for sources that need none
  c.data.newcomers = ''  # paths of people added later, separated by commas: labels after those of path; not synthetic
  c.data.identities = 1000  # m, people to train on (synthetic); of other sources it is counted, and for `plan` alone
  c.data.first_identity = 0  # number of the first of them; people added to a table of m come from m on (synthetic)
  c.data.images = 14  # training images per identity (synthetic)
  c.data.imbalance = 1.0  # long tail: images of label 0 / of label m - 1, falling by a constant factor; 1 = all alike
  c.data.label_noise = 0.0  # share of training images under the label of another training identity, drawn by data.seed
  c.data.held_out = 2  # further images per training identity, kept for closed-set identification
  c.data.size = 112  # pixels a side
  c.data.seed = 0  # which people exist (synthetic), who is evaluated on (others); train.seed apart: same data, new run
  c.data.cache = False  # render or decode once into WORKDIR/cache instead of again in every epoch (not records)
  c.data.bad_images = 'skip'  # unreadable images and people without any: 'skip' (with a warning) or 'error' (folder)
  c.data.check_colour = True  # stop where faces look more blue than red, as where BGR was taken for RGB (not synthetic)
  c.data.workers = 0  # threads that decode, processes that render (synthetic); 0 = one thread. Never changes a batch


def _augment(c: ConfigDict) -> None:
  c.augment = ConfigDict()  # of training images: probability of each, 0..1; 0 = off. In this order:
  c.augment.flip = 0.5  # left to right
  c.augment.photometric = 0.0  # brightness, contrast and saturation, each times .5 to 1.5; AdaFace has .2
  c.augment.grey = 0.0
  c.augment.blur = 0.0  # Gaussian of .4 to 2 % of the side
  c.augment.low_resolution = 0.0  # shrunk to .2 to 1 of the side and enlarged again; AdaFace has .2
  c.augment.jpeg = 0.0  # artefacts of quality 10 to 60
  c.augment.erase = 0.0  # a box of 2 to 40 % of the area becomes noise
  c.augment.crop = 0.0  # all but a box of 20 to 100 % of the area becomes black, nothing moves; AdaFace has .2


def _tokenizer(c: ConfigDict) -> None:
  c.tokenizer = ConfigDict()
  c.tokenizer.table = ''  # a ready table; '' = WORKDIR/table, made first where it is missing
  c.tokenizer.encoder = 'pixels'  # what turns images into features: 'pixels', 'clip', 'backbone' (of an earlier run)
  c.tokenizer.encoder_path = ''  # folder with CLIP's config.json and model.safetensors; WORKDIR of the earlier run
  c.tokenizer.whiten = True  # divide features by their spread within identities (ours): people differ, light does not
  c.tokenizer.vectors = ''  # a ready .npy [m, D] of identity vectors, used instead of encoder and whiten
  c.tokenizer.codes = 'product'  # 'product' (ours), 'tree' = hierarchical k-means (the paper's), 'random' = the control
  c.tokenizer.cluster = 'initial'  # what codes are made of: 'initial' (ours) or 'homogenized' vectors (the paper's)
  c.tokenizer.l = 0  # digits in a code; 0 = chosen from m
  c.tokenizer.v = 0  # values of a digit; 0 = chosen from m
  c.tokenizer.slack = 0.0  # codes kept free for people who come later, as a share of m, near where people are
  c.tokenizer.iterations = 10  # k-means iterations a level of the tree
  c.tokenizer.homogenize_epochs = 3  # passes of the uniformity loss over the identities; 0 = none
  c.tokenizer.homogenize_lr = 0.1  # its learning rate
  c.tokenizer.homogenize_scaled = True  # learning rate times the subset's size; False = the formula to the letter
  c.tokenizer.homogenize_subset = 256  # m_hat, identities in a step
  c.tokenizer.seed = 0


def _model(c: ConfigDict) -> None:
  c.model = ConfigDict()
  c.model.backbone = 'r100'  # 'r18', 'r34', 'r50', 'r100', 'r200', 'small', 'tiny'
  c.model.d = 512  # embedding and code-vector size
  c.model.projection = 128  # p, width each head projects the embedding to
  c.model.sequence = 0  # width of the sequence decoder, which reads digits in order beside the heads; 0 = none
  c.model.dropout = 0.0  # before the embedding layer
  c.model.dtype = 'bfloat16'  # of the backbone's arithmetic; heads, losses and weights are float32
  # Images that BatchNorm takes statistics over, at most; so the number of devices changes nothing. 0 = all of a batch.
  c.model.batch_norm_group = 128
  c.model.remat = False  # blocks are computed again in the backward pass: less memory, a third more arithmetic


def _loss(c: ConfigDict) -> None:
  c.loss = ConfigDict()
  c.loss.margin_type = 'cosface'  # 'cosface' (cosine - margin) or 'arcface' (angle + margin)
  c.loss.margin = 0.1
  c.loss.scale = 16.0  # logits = scale * cosine
  c.loss.exact_margin = False  # arcface's gradient: True = of cos(angle + margin), False = straight-through
  c.loss.digits = 1.0  # lambda_j, weight of each digit's cross-entropy in L_C
  # Share of the steps in which digits shape the embedding, less and less, linearly; then heads learn alone. 0 = always.
  c.loss.digits_until = 0.0
  c.loss.gamma = 1.0  # weight of L_AR
  c.loss.sequence = 1.0  # weight of L_S, the sequence decoder's cross-entropy (model.sequence)


def _joint(c: ConfigDict) -> None:
  c.joint = ConfigDict()
  c.joint.enabled = False  # True: code vectors are trained with the network (`joint`); False: they stay as they are
  c.joint.rows = 'host'  # code vectors lie in files on hosts, or split over devices ('device'); results are equal
  c.joint.rows_folder = ''  # on a fast disk of each host, or in its memory (/dev/shm/NAME); '' = WORKDIR/rows
  c.joint.start = 'table'  # code vectors begin as the table has them, or at 'random': codes alone are the table's then
  c.joint.weight = 1.0  # of the softmax of z against code vectors of the batch's identities and of negatives
  c.joint.scale = 32.0  # of that softmax
  c.joint.margin = 0.3  # of that softmax, taken off the cosine
  c.joint.negatives = 0  # further identities, drawn anew from all for every step, that it compares with
  c.joint.embeddings = 0.0  # how often it counts each embedding of another person in the batch; 0 = code vectors alone
  c.joint.uniformity = 0.0  # weight of L_GP over the batch's code vectors; 0 = none
  c.joint.lr = 0.5  # highest learning rate of the code vectors, which follows the schedule of optim; 0 = not moved
  c.joint.retokenize_every_steps = 0  # new codes from the vectors as they are by then; 0 = codes stay as they are


def _softmax(c: ConfigDict) -> None:
  c.softmax = ConfigDict()  # the baselines: a softmax over all m identities instead of codes, or over a share of them
  c.softmax.enabled = False  # True: no table, no heads, and a centre for every identity
  c.softmax.sample_rate = 1.0  # share of the identities that a step compares with; below 1: Partial FC
  c.softmax.margin_type = 'arcface'  # 'arcface', 'cosface', 'adaface' or 'combined'
  c.softmax.margin = 0.5
  c.softmax.combined = (1.0, 0.5, 0.0)  # m1, m2, m3 of cos(m1 theta + m2) - m3, instead of margin
  c.softmax.scale = 64.0  # logits = scale * cosine
  c.softmax.exact_margin = False  # as loss.exact_margin
  c.softmax.adaface_h = 0.333  # how far the length of f(x) moves the margin
  c.softmax.adaface_rate = 0.01  # of the running mean and deviation of that length
  c.softmax.interclass_filtering_threshold = 0.0  # other centres with a larger cosine do not push; 0 = all do


def _optim(c: ConfigDict) -> None:
  c.optim = ConfigDict()
  c.optim.name = 'sgd'  # 'sgd' or 'adamw'
  c.optim.lr = 0.1  # highest learning rate
  c.optim.momentum = 0.9  # sgd
  c.optim.weight_decay = 5e-4  # on weight matrices and convolutions alone
  c.optim.clip = 5.0  # global gradient norm; 0 = no clipping
  c.optim.schedule = 'cosine'  # 'cosine' or 'polynomial'
  c.optim.power = 1.0  # of the polynomial
  c.optim.warmup = 0.05  # share of the steps


def _train(c: ConfigDict) -> None:
  c.train = ConfigDict()
  c.train.steps = 0  # length of the run; 0 = train.epochs says
  c.train.epochs = 0.0  # passes over the training images; ignored where train.steps is above 0
  c.train.steps_at_most = 0  # that train.epochs may come to, however many images there are; 0 = as many as it takes
  c.train.batch_size = 128  # B, over all devices; of a single image BatchNorm learns nothing
  c.train.neighbours = 1  # images in a row of people with like codes, `joint`'s hard negatives; 1 = all drawn alone
  c.train.accumulate = 1  # parts of a batch taken one after the other: memory for B / accumulate images, one step
  c.train.ema = 0.0  # decay of a moving average of the weights, which is then what is evaluated; 0 = none
  c.train.fsdp = 1  # devices that share one copy of weights and optimiser; 1 = each has its own
  c.train.seed = 0  # initial weights, order of the data, augmentation


def _checkpoint(c: ConfigDict) -> None:
  c.checkpoint = ConfigDict()
  c.checkpoint.every_steps = 1000
  c.checkpoint.keep = 2  # newest ones kept, beside the best


def _eval(c: ConfigDict) -> None:
  c.eval = ConfigDict()
  c.eval.every_steps = 0  # on targets and on validation identities, who pick the best checkpoint; 0 = at the end alone
  # Benchmarks, separated by commas: NAME of data.path/NAME.bin, or any path that `python -m gif_jax evaluate` takes.
  c.eval.targets = ''
  c.eval.validation_identities = 100  # unseen people for choosing settings; 0 = none
  c.eval.identities = 400  # other unseen people for the metrics reported; 0 = no verification
  c.eval.images = 10  # images of each (folder: at most)
  c.eval.pairs = 6000  # verification pairs, at most, half of them genuine, in 10 folds
  c.eval.closed_set = 4000  # held-out images of training identities looked at, at most
  c.eval.batch_size = 200
  c.eval.beam = 50  # candidates kept while a code is decoded, nodes kept while a tree is searched
  c.eval.trees_up_to = 200_000  # people whose vectors are clustered for the tree; of more: the codes' trie, or no tree


def _log(c: ConfigDict) -> None:
  c.log = ConfigDict()
  c.log.every_steps = 50
  c.log.profile_steps = 0  # steps traced into WORKDIR/profile, from the 10th of this run on; 0 = none
  c.log.short = ''  # a shorter form of the experiment, to be named where this one would take hours on a CPU


_COUNTED = 2**31 - 1  # steps, as int32 has them


def all_keys() -> dict:
  """Every key with its default: {'section.key': value}."""
  return {f'{section}.{key}': value for section, keys in default().items() for key, value in keys.items()}


def train_steps(config: ConfigDict, images: int) -> int:
  """Steps of the whole run over a training set of `images` images. Raises ConfigError for more than can be counted."""
  train = config.train
  steps = train.steps or math.ceil(train.epochs * images / train.batch_size)
  if not train.steps and train.steps_at_most:
    return min(steps, train.steps_at_most)
  if steps > _COUNTED:
    raise ConfigError(f'config.train.epochs={train.epochs} are {steps} steps; give fewer, at most {_COUNTED} steps.')
  return steps
