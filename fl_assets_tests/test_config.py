from pathlib import Path

import pytest
from pydantic import Field, model_validator

from fl_assets.config import (
    ConfigFileError,
    StrictModel,
    load_yaml_model,
    parse_yaml_model,
    read_config,
)


class Inner(StrictModel):
    size: int = 1


class Outer(StrictModel):
    name: str
    items: tuple[Inner, ...] = Field(default=())

    @model_validator(mode="after")
    def _short(self) -> "Outer":
        if len(self.name) > 5:
            raise ValueError("name is too long: shorten it")
        return self


def message(text: str) -> str:
    with pytest.raises(ConfigFileError) as caught:
        parse_yaml_model(text, Outer, "outer.yaml")
    return str(caught.value)


def test_a_file_that_fits(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: ü\nitems: [{size: 3}, {}]\n", encoding="utf-8")
    assert load_yaml_model(tmp_path / "a.yaml", Outer) == Outer(
        name="ü", items=(Inner(size=3), Inner())
    )


def test_every_bad_field_is_named() -> None:
    found = message("items: [{size: many}, {sise: 1}]\nextra: 1\n")
    assert found.startswith("outer.yaml does not fit:\n")
    lines = found.splitlines()[1:]
    assert [line.split(":")[0].strip() for line in lines] == [
        "name",
        "items.0.size",
        "items.1.sise",
        "extra",
    ]
    assert lines[2] == "  items.1.sise: unknown key; remove it or correct its spelling"


def test_a_rule_over_the_whole_file_speaks_for_itself() -> None:
    assert message("name: far too long").splitlines()[1] == (
        "  (whole file): name is too long: shorten it"
    )


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n- b\n", "just text"])
def test_what_is_no_mapping(text: str) -> None:
    assert message(text).startswith("outer.yaml must hold a mapping")


def test_what_is_no_yaml() -> None:
    found = message("name: [1,\nother: }")
    assert found.startswith("outer.yaml is not valid YAML: ")
    assert "line 2" in found


def test_code_in_yaml_is_not_run() -> None:
    assert "not valid YAML" in message("name: !!python/object/apply:os.getcwd []")


@pytest.mark.parametrize("name", ["absent.yaml", "folder", "latin1.yaml"])
def test_what_cannot_be_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "latin1.yaml").write_bytes(b"name: \xfc\n")
    with pytest.raises(ConfigFileError, match=rf"{name} cannot be read: "):
        read_config(tmp_path / name)


def test_models_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Inner().size = 2  # type: ignore[misc]
