#!/bin/bash
# What to run first where there is a GPU, some ten minutes: does it run, does it make what a CPU makes, how fast is it.
# Padded digits stand for MNIST, so no data is needed. Without a GPU, to try the script: N=100 X="scale=smoke trainer.accelerator=cpu" bash benchmarks/gpu.sh
O=${O:-outputs/gpu} N=${N:-6400}
say() { echo "== $*"; (time "$@" logger=none $X) 2>&1 | grep -E "error|warning|accuracy|agreement|seconds|real|image-steps|at a time|start from|graph|compiled"; }

# 1 Does it run.
say dfkd scale=smoke outputs=$O/smoke trainer.accelerator=cuda
for t in cpu auto; do
  say dfkd trainer=$t teacher=cnn engine=plain outputs=$O/$t
  # 2 The attack on records finds as much as on a CPU: pixels are hashed, not inputs.
  say dfkd trainer=$t scale=smoke privacy=true metadata=composed metadata.summary=records metadata.records_per_class=20 outputs=$O/p$t
done
grep -H '"auc"' $O/p*/runs/digits/*/result.json

# 3 Images start from the metadata, whatever TF32 would round: the same losses three times, and nothing is said of noise.
say dfkd pipeline=release release=$O/lenet teacher=lenet5 data.pad=12 outputs=$O/l
R="dfkd pipeline=from_release distillation.epochs=1"
S="release=$O/lenet parametrisation=pixels parametrisation.start=metadata engine=plain"
say $R $S outputs=$O/usual
NVIDIA_TF32_OVERRIDE=0 say $R $S outputs=$O/exact
say $R $S trainer=cpu outputs=$O/processor
grep -H '"reconstruction_loss"' $O/{usual,exact,processor}/runs/*/*/result.json

# 4 Rates: precision, form of the convolutions, compiler, graphs, batch; then what the engine chooses, and how long it looks.
say dfkd pipeline=release release=$O/hinton teacher=hinton_net data.pad=10 outputs=$O/h
for name in hinton lenet; do
  for e in "fp32 direct false false 8000" "tf32 direct false false 8000" "bf16 direct false false 8000" "bf16 channels_last false false 8000" \
    "bf16 direct false true 8000" "bf16 direct true false 8000" "bf16 direct true true 8000" "bf16 direct true true 64000"; do
    set -- $e
    say $R release=$O/$name reconstruction.images_per_class=$N engine.precision=$1 engine.convolutions=$2 engine.compile=$3 \
      engine.cuda_graphs=$4 engine.images_per_batch=$5 outputs=$O/$name-$1-$2-$3-$4-$5
  done
  say $R release=$O/$name reconstruction.images_per_class=$N reconstruction.steps=2000 outputs=$O/$name-chosen
done

# 5 Ours against plain loops.
timeout 240 python -m benchmarks distillation reconstruction

# 6 Several GPUs: a run on all, jobs on each, and a process that fails under NCCL, which must end within seconds.
say dfkd trainer=ddp scale=smoke outputs=$O/ddp
say dfkd -m hydra/launcher=processes seed=0,1,2,3 outputs=$O/seeds
echo 'import os
from torch import nn
class Student(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 10))
    def forward(self, images):
        if self.training and os.environ.get("RANK") == "1":
            raise ValueError("on purpose")
        return super().forward(images)' >unlucky.py
PYTHONPATH=. say timeout 120 dfkd trainer=ddp scale=smoke student=custom student.target=unlucky.Student outputs=$O/unlucky
rm unlucky.py
