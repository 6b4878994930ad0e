"""Recipes: read from YAML, changed on the command line, written back."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from rrl_register.errors import InputError, UsageError
from rrl_register.nn.architecture import InteractionKind
from rrl_register.training.config import (
    OptimizerKind,
    PhaseConfig,
    TrainingConfig,
    load_training_config,
    make_training_config,
    parse_changes,
)
from rrl_register.training.datasets import PairFolder
from rrl_register.training.settings import merged

REPOSITORY = Path(__file__).resolve().parents[2]


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_recipe_is_read_from_yaml(tmp_path: Path) -> None:
    text = """
data: pictures
output: run
joint_phase: {steps: 7, batch: 8, learning_rate: 1e-3}
geometry: {near_miss: [2, 5]}
losses: {hard_negatives: false}
seed: 3
"""
    config = load_training_config(written(tmp_path / "recipe.yaml", text), seed=4, device=None)
    assert (config.data, config.output) == ((PairFolder(Path("pictures")),), Path("run"))
    assert config.joint_phase == PhaseConfig(7, 8, 0.001)
    assert config.geometry.near_miss == (2, 5)
    assert not config.losses.hard_negatives
    assert config.seed == 4
    assert config.device == "auto"
    assert config.descriptor_phase == TrainingConfig((), Path()).descriptor_phase


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("data: a\noutput: b\ncolour: red", "colour"),
        ("data: a\noutput: b\nlosses: {glory: 1}", "glory"),
        ("data: a\noutput: b\njoint_phase: 7", "should be a dictionary or an instance of PhaseConfig, 7 seen"),
        ("data: a\noutput: b\nseed: red", "valid integer, unable to parse string"),
        ("data: a\noutput: b\narchitecture: {interaction: sum}", "should be 'fil' or 'difference', 'sum' seen"),
        ("data: a\noutput: b\ngeometry: {near_miss: [1, 2, 3]}", "at most 2 items"),
        ("data: a\noutput: b\nseed: true", "a number is needed"),
        ("data: a\noutput: b\nlosses: {descriptor: yes}", "a number is needed"),
        ("data: a", "output: Field required"),
        ("- data", "recipe.yaml"),
        ("data: [a", "recipe.yaml"),
        (None, "No such file"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused_in_one_line(text: str | None, seen: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    if text is not None:
        written(path, text)
    with pytest.raises(InputError, match="no training configuration") as caught:
        load_training_config(path)
    assert seen in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mistyped_setting_is_answered_with_the_nearest(tmp_path: Path) -> None:
    path = written(tmp_path / "recipe.yaml", "data: a\noutput: b\nlosses: {near_mises: false}")
    with pytest.raises(InputError, match=r"no setting losses.near_mises: did you mean near_misses\?"):
        load_training_config(path)


def test_settings_are_changed_by_name() -> None:
    changes = parse_changes(
        ["losses.near_misses=false", "losses.descriptor=1e-1", "architecture.interaction=difference"]
    )
    config = make_training_config(merged({"data": "a", "output": "b", "losses": {"hard_top": 3}}, changes))
    assert not config.losses.near_misses
    assert (config.losses.descriptor, config.losses.hard_top) == (0.1, 3)
    assert config.architecture.interaction is InteractionKind.DIFFERENCE


@pytest.mark.parametrize("assignment", ["losses", "=3", "losses.descriptor=[1"])
def test_what_is_no_assignment_is_refused(assignment: str) -> None:
    with pytest.raises(InputError, match=r"NAME=VALUE|no YAML"):
        parse_changes([assignment])


def test_what_is_missing_is_named() -> None:
    with pytest.raises(UsageError, match="output"):
        make_training_config({"data": "a"})


@pytest.mark.parametrize("recipe", sorted((REPOSITORY / "pipelines").glob("train*.yaml")), ids=lambda p: p.name)
def test_shipped_recipes_are_read_and_survive_being_printed(recipe: Path) -> None:
    config = load_training_config(recipe)
    assert make_training_config(yaml.safe_load(yaml.safe_dump(config.settings()))) == config


def test_every_row_of_the_ablation_is_a_recipe() -> None:
    ablation = yaml.safe_load((REPOSITORY / "pipelines" / "ablation.yaml").read_text())
    budgets = {}
    for name, changes in ablation["rows"].items():
        plain = {key: value for key, value in changes.items() if key != "separate_families"}
        budgets[name] = make_training_config(merged(ablation["recipe"], plain)).total_steps
    steps = budgets["full recipe"]
    assert all(n == (3 * steps if name.endswith("three times the steps") else steps) for name, n in budgets.items())
    paper = make_training_config(merged(ablation["recipe"], ablation["rows"]["paper's recipe"]))
    assert paper.optimizer.kind is OptimizerKind.NADAM
    assert not (paper.losses.near_misses or paper.losses.hard_negatives or paper.losses.descriptor)


def test_the_recipe_of_a_run_is_all_but_where_and_how_fast_it_goes() -> None:
    here = make_training_config({"data": "a", "output": "b", "threads": 3, "log_every": 5})
    there = make_training_config({"data": "a", "output": "d", "device": "cpu"})
    assert here.recipe() == there.recipe()
    assert here.recipe() != make_training_config({"data": "a", "output": "b", "losses": {"hard_top": 9}}).recipe()
    assert here.recipe() != make_training_config({"data": "c", "output": "b"}).recipe()
