"""Training steps on a GPU: the options that only mean something there, and its memory."""

import json
import math
import subprocess
import sys

import pytest
import torch

from nas_t2i.training.micro_batch import find_micro_batch, read_answer
from nas_t2i.training.ranks import join_ranks
from tests.training.ranks import ROOT
from tests.training.tiny import NoiseFeed, tiny_arch, tiny_budget, trainer_on

# What torch, DeepSpeed and the driver warn of differs by device; it is shown, not an error.
pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]


def train(steps=3, execution=None, family="unet", **training):
    """Train a tiny model on noise; return the trainer and the loss of each step."""
    budget = tiny_budget(steps, execution, device="cuda", **training)
    micro = budget.execution.micro_batch
    trainer = trainer_on(NoiseFeed(0), budget, join_ranks("cuda"), micro_batch=micro, family=family)
    losses = []
    for step in range(1, steps + 1):  # one at a time: within a run, losses are told a step late
        trainer.train_to(step, lambda _, loss: losses.append(loss))
    return trainer, losses


def test_steps_are_those_of_the_cpu_up_to_rounding():
    trainer, losses = train()
    assert {weight.device.type for weight in trainer.denoiser.parameters()} == {"cuda"}
    code = (
        "import json; from nas_t2i.training.ranks import join_ranks; "
        "from tests.training.tiny import NoiseFeed, tiny_budget, trainer_on; losses = []; "
        "trainer = trainer_on(NoiseFeed(0), tiny_budget(3), join_ranks('cpu')); "
        "trainer.train_to(3, lambda _, loss: losses.append(loss)); print(json.dumps(losses))"
    )
    # In a process of its own: DeepSpeed trains on one kind of device in a process.
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT, check=True
    )
    assert losses == pytest.approx(json.loads(done.stdout.splitlines()[-1]), rel=0.02)


def test_bfloat16_rounds_the_products_and_keeps_weights_and_moments_in_float32():
    _, exact = train()
    trainer, rounded = train(precision="bf16")
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=0.05)
    assert {weight.dtype for weight in trainer.denoiser.parameters()} == {torch.float32}
    moments = trainer.state_dict()["engine"]["adam"]
    assert {value.dtype for state in moments for value in state.values()} == {torch.float32}


@pytest.mark.parametrize("how", [True, "regional"])
def test_a_compiled_model_takes_the_same_steps(how):
    _, eager = train(precision="bf16")
    _, compiled = train(precision="bf16", execution={"compile": how})
    assert all(map(math.isfinite, compiled))
    assert compiled == pytest.approx(eager, rel=0.05)


@pytest.mark.parametrize("micro_batch", [4, 2])
def test_cuda_graphs_take_the_same_steps_and_are_averaged_and_sampled_from(micro_batch):
    execution = {"micro_batch": micro_batch, "compile": "reduce-overhead"}
    _, eager = train(6, precision="bf16", execution={"micro_batch": micro_batch})
    trainer, replayed = train(6, precision="bf16", execution=execution)
    assert replayed == pytest.approx(eager, rel=0.05)
    inputs = torch.randn(2, 12, 8, 8), torch.zeros(2, dtype=torch.int64), torch.zeros(2, 12, 64)
    inputs = tuple(value.cuda() for value in inputs)
    with trainer.averaged_weights() as averaged, torch.inference_mode():
        # The third call replays what the second recorded: what the first gave must stay.
        given = [averaged(*inputs) for _ in range(3)]
        without = averaged.model.forward(
            inputs[0], timestep=inputs[1], encoder_hidden_states=inputs[2], return_dict=False
        )[0]
    for prediction in given:
        torch.testing.assert_close(prediction, without, rtol=0.05, atol=0.05)
    trainer.train_to(7, lambda *_: None)


@pytest.mark.parametrize("family", ["unet", "pixart"])
@pytest.mark.parametrize("micro_batch", [4, 2])
def test_recorded_passes_take_the_same_steps_and_leave_evaluation_alone(micro_batch, family):
    execution = {"micro_batch": micro_batch}
    _, eager = train(6, family=family, precision="bf16", execution=execution)
    recorded = execution | {"cuda_graphs": True}
    trainer, replayed = train(6, family=family, precision="bf16", execution=recorded)
    assert replayed == pytest.approx(eager, rel=0.05)
    inputs = torch.randn(3, 12, 8, 8), torch.zeros(3, dtype=torch.int64), torch.zeros(3, 12, 64)
    with trainer.averaged_weights() as averaged, torch.inference_mode():
        assert averaged(*(value.cuda() for value in inputs)).isfinite().all()  # of other shapes
    trainer.train_to(7, lambda *_: None)


OPTIONS = [{}, {"compile": True}, {"compile": "reduce-overhead"}, {"cuda_graphs": True}]


@pytest.mark.parametrize("execution", OPTIONS)
def test_the_host_waits_for_no_step_while_it_trains(execution):
    trainer, _ = train(4, execution=execution)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer._take_step()
        trainer._update_average()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_device_short_of_memory_gets_a_smaller_micro_batch(tmp_path):
    budget = tiny_budget(batch=1 << 14, execution={"micro_batch": "auto"}, device="cuda")
    file = tmp_path / "config.json"
    arch = tiny_arch().canonical()
    file.write_text(json.dumps({"budget": budget.model_dump(mode="json"), "trained_arch": arch}))
    assert find_micro_batch(file) == 1 << 14
    code = (
        "import sys, torch; from nas_t2i.training import micro_batch; "
        "share = (200 << 20) / torch.cuda.get_device_properties(0).total_memory; "
        "torch.cuda.set_per_process_memory_fraction(share); "
        "sys.exit(micro_batch.main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, file], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert done.returncode == 0
    assert 1 <= read_answer(done.returncode, done.stdout) < 1 << 14
    assert '"micro_batch"' in done.stdout  # it found one: 1 is also what stands for none
