"""Some 500 configs that are wrong: what is said on the command line, and what the answer must name.

A part is written down; the others are made of the schema: every number that is not finite, every text in the place of a number, every
negative number where there is none, every choice and flag misspelt. ``{release}``, ``{tmp}``: folders that whoever runs them makes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import NamedTuple

from dfkd_exp.config.groups import groups, inner_groups, kinds
from dfkd_exp.settings import Settings


class Wrong(NamedTuple):
    """What is said, and a word that the answer has."""

    said: tuple[str, ...]
    named: str

    def __str__(self) -> str:
        return " ".join(self.said)


TEACHERS = ["lenet5", "lenet5_half", "lenet5_half_dafl", "alexnet", "alexnet_half"]
"""Networks that digits are too small for."""
MINE = "tests.wrong_parts"
CUSTOM = {  # what is wrong about a network of one's own, after =custom
    "target=nowhere.Net": "target",
    "target=Net": "target",
    "target=torch.nn.Nope": "target",
    "target=torch.nn.Linear": "student",
    f"target={MINE}.NOT_A_NETWORK": "student",
    "target=os.getcwd": "student",
    "target=builtins.dict": "student",
    f"target={MINE}.Flat kwargs.num_out=11": "10",
    f"target={MINE}.Flat kwargs.num_out=0": "10",
    f"target={MINE}.Flat kwargs.num_out=-1": "student",
    f"target={MINE}.Flat kwargs.num_out=many": "student",
    f"target={MINE}.Flat kwargs.nun_out=10": "student",
    f"target={MINE}.Flat kwargs.twice=true": "student",
    f"target={MINE}.Flat kwargs.fails=made": "student",
    f"target={MINE}.Flat kwargs.fails=called": "student",
    f"target={MINE}.Flat kwargs.fails=trained": "student",
    "target=torch.nn.Flatten": "student",
    "target=torch.nn.Conv2d kwargs.in_channels=3 kwargs.out_channels=10 kwargs.kernel_size=8": "student",
}
OURS = {  # and about one of ours
    "student=mlp +student.kwargs.widht=8": "student",
    "student=mlp +student.kwargs.width=-8": "student",
    "student=mlp +student.kwargs.width=wide": "student",
    "student=mlp +student.kwargs.width=1.5": "student",
    "student=mlp +student.kwargs.width=null": "student",
    "student=mlp +student.kwargs.width=[8]": "student",
    "student=mlp +student.kwargs.width=1000000000000": "student",
    "student=cnn +student.kwargs.nope=1": "student",
    "student=resnet8 +student.kwargs.width=4": "student",
    "student.name=nothing": "student.name",
    "student=mlp student.checkpoint={tmp}/missing.pt": "student.checkpoint",
    "student=mlp student.checkpoint={tmp}": "student.checkpoint",
    "student=mlp student.checkpoint={tmp}/text.pt": "student.checkpoint",
    "student=mlp student.checkpoint={tmp}/text.safetensors": "student.checkpoint",
    "student=mlp student.checkpoint={tmp}/empty.pt": "student.checkpoint",
    "student=cnn student.checkpoint={release}/model.safetensors": "student.checkpoint",
}
OPTIMIZERS = {  # of training and distillation, after optimizer=custom
    "_target_=torch.optim.Nope": "_target_",
    "_target_=nowhere.Adam": "_target_",
    "_target_=Adam": "_target_",
    "_target_=torch.nn.Linear": "_target_",
    "_target_=torch.optim.LBFGS": "_target_",
    "_target_=os.getcwd": "_target_",
    "_target_=torch.optim.RMSprop kwargs.nope=1": "optimizer",
    "_target_=torch.optim.RMSprop kwargs.momentum=-1": "optimizer",
    "_target_=torch.optim.RMSprop kwargs.momentum=much": "optimizer",
    "_target_=torch.optim.SGD kwargs.nesterov=true": "optimizer",
    "_target_=torch.optim.SparseAdam": "optimizer",
    f"_target_={MINE}.NeedsClosure": "optimizer",
}
BY_HAND = {
    # what a network is trained by
    "{part}.optimizer.betas=[0.9]": "betas",
    "{part}.optimizer.betas=[]": "betas",
    "{part}.optimizer.betas=[0.9,1]": "betas",
    "{part}.optimizer.betas=[0.9,0.99,0.999]": "betas",
    "{part}.optimizer.betas=0.9": "betas",
    "{part}.optimizer.betas=[a,b]": "betas",
    "{part}.optimizer.betas=[0.9,inf]": "betas",
    "{part}/optimizer=sgd {part}.optimizer.momentum=1": "momentum",
    "{part}/optimizer=sgd {part}.optimizer.momentum=0": "nesterov",
    "{part}/schedule=one_cycle {part}.schedule.warmup=1": "warmup",
    "{part}/schedule=steps {part}.schedule.at=[0]": "at",
    f"{{part}}/schedule={MINE}.Falling": "schedule",
    f"{{part}}/schedule={MINE}.Breaking": "schedule",
    f"{{part}}/schedule={MINE}.Nope": "schedule",
    f"{{part}}/schedule={MINE}.NOT_A_NETWORK": "schedule",
    f"{{part}}/augmentation={MINE}.Smaller": "augmentation",
    "training/augmentation=mixed": "training.augmentation",
    "distillation/augmentation=mixed distillation.targets=labels": "distillation.augmentation",
    "distillation/augmentation=mixed distillation.augmentation.share=0": "share",
    "distillation/augmentation=mixed distillation.augmentation.mixture=all": "mixture",
    "training/augmentation=mixed_parts": "training.augmentation",
    "distillation/augmentation=mixed_parts distillation.augmentation.share=2": "share",
    "{part}/augmentation=resized_crop {part}.augmentation.area=0": "area",
    "{part}/augmentation=resized_crop {part}.augmentation.proportions=0.5": "proportions",
    "{part}/augmentation=flip_and_crop {part}.augmentation.reflect=true {part}.augmentation.padding=8": "padding",
    "{part}/augmentation=affine {part}.augmentation.scale=1": "scale",
    "{part}.label_smoothing=1": "label_smoothing",
    "{part}.batch_size=0": "batch_size",
}
ALONE = {
    "distillation.label_smoothing=0.1": "distillation.label_smoothing",
    "distillation.snapshots=-1": "distillation.snapshots",
    "distillation.targets=hard": "distillation.targets",
    "source=noise distillation=labels": "distillation",
    "source=noise distillation.targets=labels": "distillation",
    "source=noise source.images=0": "source.images",
    "source=noise source.std=0": "source.std",
    "source=same_bytes metadata=batch_norm teacher=cnn_bn": "same_bytes",
    "metadata=channels metadata.class_rank=10": "metadata.class_rank",
    "metadata=composed metadata.summary=records metadata.class_rank=2": "metadata.class_rank",
    "source=data source.images=9": "source.images",
    "source=data source.images=100000": "source.images",
    "source=same_bytes source.codec=gif": "source.codec",
    "source=same_bytes source.codec=jpeg source.quality=0": "source.quality",
    "source=same_bytes metadata=top_layer metadata.storage=int8 metadata.covariance=diagonal": "same_bytes",
    "source=dfkd_exp.distillation.source.Nope": "source",
    "source=os.path.join": "source",
    # what is recorded
    "metadata.layers=[nope]": "metadata.layers",
    "metadata.layers=[0.5]": "metadata.layers",
    "metadata.layers=[1,nope]": "metadata.layers",
    "metadata.layers=nope": "metadata.layers",
    "metadata.layers=3": "metadata.layers",
    "metadata=top_layer metadata.layers=all": "metadata.layers",
    "metadata=spectral_layer_pairs metadata.layers=top": "metadata.layers",
    "metadata=spectral_all_layers metadata.layers=top": "metadata.layers",
    "metadata=spectral_all_layers metadata.layers=[]": "metadata.layers",
    "metadata=composed metadata.basis=layer_pairs metadata.layers=top": "metadata.layers",
    "metadata=composed metadata.basis=all_layers metadata.summary=records metadata.layers=[]": "metadata.layers",
    "metadata=composed metadata.basis=separable metadata.summary=records": "metadata.basis",
    "metadata=composed metadata.basis=all_layers metadata.graph=coactivation": "metadata.graph",
    "metadata=batch_norm": "batch_norm",
    "metadata=batch_norm teacher=cnn": "batch_norm",
    "metadata=batch_norm teacher=cnn_bn metadata.layers=dense": "metadata.layers",
    "metadata=batch_norm teacher=cnn_bn metadata.signal=after_relu": "metadata.signal",
    "metadata=channels metadata.scope=some": "metadata.scope",
    "metadata=channels metadata.scope=all metadata.dp.epsilon=1": "metadata.dp.epsilon",
    "metadata.dp.epsilon=0": "metadata.dp.epsilon",
    "metadata.dp.epsilon=1e300": "metadata.dp.epsilon",
    "metadata.dp.epsilon=1 metadata.dp.delta=0.005": "metadata.dp.delta",
    "metadata.dp.epsilon=1 metadata.dp.delta=0.9": "metadata.dp.delta",
    "metadata=all_layers metadata.dp.epsilon=1": "metadata.covariance",
    "data=wine metadata=all_layers_diagonal metadata.dp.epsilon=1": "data.range",
    "metadata=spatial metadata.dp.epsilon=1": "metadata",
    "metadata.temperature=0": "metadata.temperature",
    "metadata.storage=fp64": "metadata.storage",
    "metadata.covariance=some": "metadata.covariance",
    "metadata=spectral_all_layers metadata.fraction=0": "metadata.fraction",
    "metadata=spectral_all_layers metadata.fraction=1.5": "metadata.fraction",
    "metadata=spectral_all_layers metadata.graph=edges": "metadata.graph",
    # how images are made
    "optimizer.betas=[0.9]": "optimizer.betas",
    "optimizer.betas=[0.9,1]": "optimizer.betas",
    "optimizer.betas=[0.9,-1]": "optimizer.betas",
    "optimizer.betas=[nan,0.9]": "optimizer.betas",
    "optimizer.betas=[a,b]": "optimizer.betas",
    "optimizer=adamw optimizer.weight_decay=-1": "optimizer.weight_decay",
    "optimizer=adamw optimizer.betas=[1,1]": "optimizer.betas",
    "optimizer=sgd optimizer.momentum=-1": "optimizer.momentum",
    "optimizer=sgd optimizer.momentum=1": "optimizer.momentum",
    "optimizer=lbfgs optimizer.max_iter=0": "optimizer.max_iter",
    "optimizer=lbfgs optimizer.history_size=0": "optimizer.history_size",
    "optimizer=custom optimizer._target_=torch.optim.Nope": "optimizer._target_",
    "optimizer=custom optimizer._target_=nowhere.Adam": "optimizer._target_",
    "optimizer=custom optimizer._target_=torch.nn.Linear": "optimizer._target_",
    "optimizer=custom optimizer._target_=torch.optim.RMSprop +optimizer.kwargs.nope=1": "optimizer",
    "optimizer=custom optimizer._target_=torch.optim.RMSprop +optimizer.kwargs.momentum=-1": "optimizer",
    "optimizer=custom optimizer._target_=torch.optim.SparseAdam": "optimizer",
    "reconstruction.group_size=1 reconstruction.images_per_class=1": "reconstruction.group_size",
    "reconstruction.images_per_class=15": "reconstruction.images_per_class",
    "reconstruction.match_weight=-1": "reconstruction.match_weight",
    "reconstruction.images_per_class=0": "reconstruction.images_per_class",
    "reconstruction.steps=0": "reconstruction.steps",
    "reconstruction.schedule=linear": "reconstruction.schedule",
    "reconstruction.balance=some": "reconstruction.balance",
    "reconstruction.balance=shares metadata=batch_norm teacher=cnn_bn": "reconstruction.balance",
    "metadata=channels metadata.pixels=spectrum reconstruction=sample": "reconstruction=sample",
    "metadata=channels metadata.pixels=colours": "metadata.pixels",
    "metadata=channels metadata.styles=1 teacher=cnn reconstruction=sample": "reconstruction=sample",
    "metadata=channels metadata.styles=1 metadata.dp.epsilon=1": "metadata.styles",
    "metadata=channels metadata.styles=1 teacher=mlp": "metadata.styles",
    "metadata=channels metadata.pixels=moments metadata.dp.epsilon=1": "metadata.pixels",
    "metadata=composed metadata.basis=layer_pairs metadata.covariance=diagonal metadata.pixels=moments": "metadata.pixels",
    "metadata=channels metadata.pixels=spectrum data=wine": "metadata.pixels",
    "metadata=channels metadata.grid=0": "metadata.grid",
    "metadata=channels metadata.grid=2 metadata.covariance=full": "metadata.covariance",
    "reconstruction.tolerance=1": "reconstruction.tolerance",
    "reconstruction=sample reconstruction.shrinkage=0.1": "reconstruction.shrinkage",
    "reconstruction=moments reconstruction.shrinkage=0": "reconstruction.shrinkage",
    "parametrisation.start=zero": "parametrisation.start",
    "parametrisation.blur_sigma=-1": "parametrisation.blur_sigma",
    "parametrisation.blur_every=0": "parametrisation.blur_every",
    "parametrisation=latents parametrisation.directions=1": "parametrisation.directions",
    "terms=[nope]": "terms",
    "terms=nope": "terms",
    "terms=[label,nope]": "terms",
    "terms.label.weight=1": "terms.label.weight: the term label is not chosen: terms=[label]",
    "terms.label.weigth=1": "the term label has no weigth; it has weight",
    "terms=[label] terms.label.weight=-1": "terms.label.weight",
    "terms=[label] terms.label.weight=nan": "terms.label.weight",
    "terms=[label] terms.label.weigth=1": "terms.label",
    f"+terms@terms.mine={MINE}.PerBatch": "terms.mine",
    f"+terms@terms.mine={MINE}.Unfinished": "terms.mine",
    f"+terms@terms.mine={MINE}.Nope": "terms",
    "engine.precision=fp16": "engine.precision",
    "engine.convolutions=fft": "engine.convolutions",
    "engine.images_per_batch=0": "engine.images_per_batch",
    "engine.compile=perhaps": "engine.compile",
    # the data
    "data=none": "data",
    "data=mnist data.root={tmp}/missing": "data.root",
    "data=mnist data.root={tmp}": "data.root",
    "data=fashion_mnist data.root={tmp}/missing": "data.root",
    "data=celeba data.root={tmp}/missing": "data",
    "data=celeba data.size=0": "data.size",
    "data=image_folder": "data.path",
    "data=image_folder data.path={tmp}/missing": "data.path",
    "data=image_folder data.path={tmp}/text.pt": "data.path",
    "data=image_folder data.path={tmp}/one_class": "data.path",
    "data=image_folder data.path={release}": "data.path",
    "data=image_folder data.path={tmp}/images data.channels=2": "data.channels",
    "data=image_folder data.path={tmp}/images data.size=0": "data.size",
    "data=image_folder data.path={tmp}/images data.size=10000000": "data.size",
    "data=image_folder data.path={tmp}/images data.test_fraction=1": "data.test_fraction",
    "data=image_folder data.path={tmp}/images data.classes=[a]": "data.classes",
    "data=image_folder data.path={tmp}/images data.classes=[a,nope]": "data.classes",
    "data=image_folder data.path={tmp}/images data.labels=missing.csv": "data.labels",
    "data=image_folder data.path={tmp}/images data.labels={tmp}/text.pt": "data.labels",
    "data=arrays": "data.path",
    "data=arrays data.path={tmp}/missing": "data.path",
    "data=arrays data.path={tmp}/images": "data.path",
    "data=arrays data.path={tmp}/text.pt": "text.pt",
    "data=arrays data.path={tmp}/empty.pt": "empty.pt",
    "data=arrays data.path={tmp}/table.npz data.layout=HW": "data.layout",
    "data=arrays data.path={tmp}/table.npz data.layout=WH": "data.layout",
    "data=arrays data.path={tmp}/table.npz data.range=[1]": "data.range",
    "data=arrays data.path={tmp}/table.npz data.range=[1,1]": "data.range",
    "data=arrays data.path={tmp}/table.npz data.range=[0,1,0,1]": "data.range",
    "data=arrays data.path={tmp}/table.npz data.classes=[a]": "data.classes",
    "data=arrays data.path={tmp}/table.npz data.labels={tmp}/missing": "data",
    "data=arrays data.path={tmp}/table.npz data.pad=1": "data.pad",
    "data=arrays data.path={tmp}/table.npz data.mean=[1]": "data.mean",
    "data=arrays data.path={tmp}/table.npz data.mean=[1,1,1] data.standardise=true": "data.standardise",
    "data=wine teacher=lenet5": "teacher",
    "data=wine student=cnn": "student",
    "data=wine distillation/augmentation=affine": "distillation/augmentation",
    "data=hub": "data.name",
    "data.limit=1": "data.limit",
    "data.limit=5": "data.limit",
    "data.limit=a": "data.limit",
    "data.pad=-1": "data.pad",
    "data.pad=1000000": "data.pad",
    "data.mean=[0.5,0.5]": "data.mean",
    "data.std=[1,1,1]": "data.std",
    "data.std=[0]": "data.std",
    "data.std=[inf]": "data.std",
    "data.mean=[nan]": "data.mean",
    "data.mean=0.5": "data.mean",
    "data.mean=[a]": "data.mean",
    "data.size=8": "data.size",
    # where it runs and what is kept
    "trainer.accelerator=cuda": "trainer.accelerator",
    "trainer.accelerator=mps": "trainer.accelerator",
    "trainer.accelerator=tpu": "trainer.accelerator",
    "trainer=gpu": "trainer",
    "trainer.devices=0": "trainer.devices",
    "trainer.devices=-1": "trainer.devices",
    "trainer.devices=two": "trainer.devices",
    "trainer.devices=100000": "trainer.devices",
    "trainer.devices=null": "trainer.devices",
    "trainer.nodes=0": "trainer.nodes",
    "trainer.nodes=2": "trainer.nodes",
    "trainer.launcher=mpi": "trainer.launcher",
    "trainer=slurm": "trainer",
    "trainer.precision=64": "trainer.precision",
    "logger=mlflow": "logger",
    "name=a/b": "name",
    "name=..": "name",
    "name=.": "name",
    "seed=-1": "seed",
    "seed=1.5": "seed",
    "seed=0,1": "seed",
    "seed=nan": "seed",
    "row=nope": "row",
    "experiment=tradeoff row=nope": "nope",
    "experiment=nope": "experiment",
    "recipe=nope": "recipe",
    "scale=nope": "scale",
    "sweep=nope": "sweep",
    "pipeline=half": "pipeline",
    "privacy=maybe": "privacy",
    "privacy=true shadows=5": "shadows must be an even number from 6",
    "shadows=6": "set privacy=true",
    "privacy=true shadow_students=true": "shadow_students must be false without shadows",
    "rows=[1]": "rows",
    # terms and generators that need what is not there
    "terms=[disagreement]": "terms.disagreement: Disagreement looks at the student",
    "terms=[label,disagreement] source=noise": "terms has no effect with source=noise; leave it out",
    "terms=[label,contrast]": "terms.contrast: Contrast learns from batch to batch",
    "source=noise reconstruction.steps=5": "reconstruction.steps has no effect with source=noise; leave it out",
    "source=noise source.images=9 reconstruction.images_per_class=20": "reconstruction.images_per_class has no effect",
    "recipe=papr seed=0,1": "recipe=papr: there is no such recipe",
    "student=mlp,cnn": "student=mlp,cnn: several values are for a sweep: dfkd -m student=mlp,cnn",
    "recipe=paper metadata=top_layer reconstruction.one_image=true": "reconstruction.one_image=… has no effect without records of pairs",
    "recipe=paper metadata=spectral_all_layers reconstruction.one_image=true": "reconstruction.one_image=… has no effect",
    "source=data optimizer=sgd": "optimizer has no effect with source=data",
    "source=same_bytes engine.precision=fp32": "engine.precision has no effect with source=same_bytes",
    "method=dafl reconstruction.steps=5": "reconstruction.steps has no effect with source=synthesis; leave it out, or say source.steps",
    "method=dafl reconstruction.images_per_class=20": "reconstruction.images_per_class has no effect with source=synthesis",
    "protocol=own": "choose it: method=NAME",
    "method=dafl distillation=fast protocol=own": "distillation=fast beside protocol=own",
    "data=wine source=synthesis terms=[contrast]": "terms.contrast: Contrast looks at parts",
    "data=wine reconstruction.shift=1": "reconstruction.shift=1 moves what has space",
    "data=wine reconstruction.flip=true": "reconstruction.flip=true moves what has space",
    "parametrisation=generator": "parametrisation",
    "method=dfkd parametrisation=generator": "parametrisation.start: the chosen parametrisation has no start; it belongs to",
    "metadata=none terms=[batch_norm]": "terms.batch_norm: the teacher has no BatchNorm layers",
    "source=synthesis metadata=none terms=[batch_norm]": "terms.batch_norm",
    "source=synthesis source.images=0": "source.images",
    "source=synthesis engine.compile=true": "engine.compile",
    "source=synthesis source.pool=10": "source.pool",
    "source=synthesis source.groups=7": "source.groups",
    "source=synthesis parametrisation=generator parametrisation.latents=0": "parametrisation.latents",
    "source=synthesis source.fresh=true": "parametrisation=generator",
    "source=synthesis source.batch_size=64 source.groups=64": "source.groups",
    "parametrisation=frequencies data=wine": "parametrisation=pixels",
    "parametrisation=latents teacher=cnn_bn": "parametrisation=pixels",
    "source=synthesis parametrisation=generator parametrisation.optimise_latents=true": "parametrisation.optimise_latents",
    "source=synthesis parametrisation=generator parametrisation.kept=epoch": "parametrisation.kept",
    "source=synthesis parametrisation=generator parametrisation.latents_lr=0.01": "parametrisation.latents_lr",
    "source=synthesis parametrisation=generator parametrisation.latents_from=text": "parametrisation.latents_from",
    "source=synthesis parametrisation=generator parametrisation.noisy_layers=0": "parametrisation.noisy_layers",
    "source=synthesis parametrisation=generator parametrisation.renew_every=0": "parametrisation.renew_every",
    "source=synthesis parametrisation=generator parametrisation.latents_from=classes parametrisation.kept=batch": "parametrisation.kept",
    "source=synthesis parametrisation=generator parametrisation.latents_from=classes parametrisation.of_classes=false": "of_classes",
    "source=synthesis optimizer=lbfgs": "optimizer: Lbfgs takes a batch several times",
    "source=synthesis optimizer=custom optimizer._target_=torch.optim.LBFGS": "optimizer: CustomOptimizer takes a batch several times",
    "source=synthesis source.clip=0": "source.clip",
    "terms=[class_impression] terms.class_impression.betas=[]": "terms.class_impression.betas",
    "terms=[class_impression] terms.class_impression.temperature=0": "terms.class_impression.temperature",
    "training.clip=0": "training.clip",
    "distillation.clip=-1": "distillation.clip",
    "distillation.loss=l2": "distillation.loss",
    "distillation.attention=-1": "distillation.attention",
    "distillation.attention=1 student=mlp": "distillation.attention: student and teacher have no layers",
    "source=synthesis source.schedule=one_cycle": "source.schedule",
    "source=synthesis terms=[disagreement] terms.disagreement.distance=l2": "terms.disagreement.distance",
    "source=synthesis terms=[disagreement] terms.disagreement.temperature=0": "terms.disagreement.temperature",
    "metadata=none metadata.layers=all": "metadata.layers",
    # the wall
    "pipeline=release release={tmp}": "release",
    "pipeline=release release={tmp}/text.pt": "release",
    "pipeline=release release={tmp}/text.pt/below": "release",
    "pipeline=release student=cnn": "student",
    "pipeline=release privacy=true": "privacy",
    "pipeline=release likeness=true": "likeness",
    "pipeline=release shadows=6 shadow_students=true": "shadow_students",
    "pipeline=from_release release={release} data=digits privacy=true shadows=6": "pipeline=release, or full",
    "pipeline=release optimizer.lr=1": "optimizer",
    "pipeline=from_release": "release",
    "pipeline=from_release release={tmp}/missing": "release",
    "pipeline=from_release release=hf://name": "release",
    "pipeline=release release=hf://org/name": "release",
    "pipeline=from_release release={tmp}": "release",
    "pipeline=from_release release={tmp}/text.pt": "release",
    "pipeline=from_release release={release} metadata=top_layer": "metadata",
    "pipeline=from_release release={release} training.epochs=2": "training",
    "pipeline=from_release release={release} privacy=true": "privacy",
    "pipeline=from_release release={release} likeness=true": "likeness",
    "pipeline=from_release release={release} source=data": "data",
    "pipeline=from_release release={release} data=digits source=data source.images=9": "source.images",
    "pipeline=from_release release={release} source=same_bytes": "data",
    "pipeline=from_release release={release} student=lenet5": "student",
    "pipeline=from_release release={release} student=custom student.target=nowhere.Net": "student.target",
    "pipeline=from_release release={release} data=digits data.pad=1": "data.pad",
    "pipeline=from_release release={release} data=mnist data.root={tmp}": "data.root",
    "pipeline=from_release release={release} source=noise distillation=labels": "distillation",
    "pipeline=from_release release={release} optimizer=custom optimizer._target_=torch.optim.Nope": "optimizer._target_",
    # not an argument at all
    "seed=[1": "seed=[1",
    "seed": "seed",
    "=1": "=1",
    "seed==1": "seed==1",
    "teacher.checkpoint=a=b.ckpt": "teacher.checkpoint",
    "nothing=1": "nothing",
    "+nothing=1": "nothing",
    "+data.nothing=1": "nothing",
    "~data": "data",
    "data.=1": "data",
    "Data=digits": "Data",
    "teacher=mlp,cnn": "teacher",
    "hydra.run.dir": "hydra.run.dir",
    "hydra/launcher=nope": "hydra/launcher",
    "--no-such-flag": "--no-such-flag",
}  # fmt: skip

NO_VALUES = {"float": ("inf", "-inf", "nan"), "int": ("many", "1.5", "-1"), "bool": ("perhaps",)}
"""By the type of a field, what is none of its values."""
PLACES = {  # what must be chosen for a field to be there, beside the choice that has it
    "data=image_folder": "data.path={tmp}/images",
    "data=arrays": "data.path={tmp}/table.npz",
    "data=hub": "data.name=somebody/something",
    "student=custom": f"student.target={MINE}.Flat",
    "teacher=custom": f"teacher.target={MINE}.Flat",
    "optimizer=custom": "optimizer._target_=torch.optim.RMSprop",
    "training/optimizer=custom": "training.optimizer._target_=torch.optim.RMSprop",
    "distillation/optimizer=custom": "distillation.optimizer._target_=torch.optim.RMSprop",
}


def by_hand() -> Iterator[Wrong]:
    """Those that are written down."""
    for part in ("training", "distillation"):
        yield from (_wrong(said.replace("{part}", part), named) for said, named in BY_HAND.items())
        for said, named in OPTIMIZERS.items():
            flag = f"{part}.optimizer"
            target, _, kwargs = said.partition(" ")
            more = f" +{flag}.{kwargs}" if kwargs else ""
            yield _wrong(f"{part}/optimizer=custom {flag}.{target}{more}", named)
    for part in ("teacher", "student"):
        yield from (_wrong(f"{part}={name}", part) for name in TEACHERS)
        for said, named in CUSTOM.items():
            target, *kwargs = said.split()
            more = "".join(f" +{part}.{text}" for text in kwargs)
            yield _wrong(f"{part}=custom {part}.{target}{more}", part if named == "student" else named)
        yield from (_wrong(s.replace("student", part), n.replace("student", part)) for s, n in OURS.items())
    yield from (_wrong(said, named) for said, named in ALONE.items())


def of_the_schema() -> Iterator[Wrong]:
    """Every field that is a number, once with each kind of value that is none; every choice and flag misspelt."""
    seen: set[str] = set()
    for group in groups():
        yield Wrong((f"{group}=nope",), group)
        yield Wrong((f"{group.replace('/', '.')}.nope=1",), group.partition("/")[0])
        for choice, schema in kinds(group).items():
            if group == "terms":
                chosen, prefix = [f"terms=[{choice}]"], f"terms.{choice}"
            else:
                chosen, prefix = [f"{group}={choice}"], group.replace("/", ".")
            if more := PLACES.get(chosen[0]):
                chosen.append(more)
            for flag, kind in _numbers(schema, prefix, set(inner_groups(group))):
                if flag in seen:
                    continue
                seen.add(flag)
                for value in NO_VALUES[re.search("float|int|bool", kind)[0]]:
                    said = f"[{value}]" if kind.startswith("list") else value
                    yield Wrong((*chosen, f"{flag}={said}"), flag)


def _numbers(schema: type[Settings], prefix: str, inner: set[str]) -> Iterator[tuple[str, str]]:
    for field in fields(schema):
        kind = str(field.type)
        if is_dataclass(field.default_factory):
            yield from _numbers(field.default_factory, f"{prefix}.{field.name}", set())
        elif re.fullmatch(r"(list\[)?(float|int|bool)\]?( \| None)?", kind):
            yield f"{prefix}.{field.name}", kind


def _wrong(said: str, named: str) -> Wrong:
    return Wrong(tuple(said.split()), named)


def every() -> list[Wrong]:
    """All of them, none twice."""
    return list(dict.fromkeys([*by_hand(), *of_the_schema()]))
