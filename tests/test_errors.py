"""The kinds of errors, their codes, and the page that explains them."""

import pickle
import re
from pathlib import Path

import pytest

import yolotf
from yolotf import errors

PAGE = (Path(__file__).parents[1] / "docs/errors.md").read_text(encoding="utf-8")
KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, (errors.YolotfError, ImportError))
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_kind_is_public_and_on_the_page(kind):
    assert getattr(yolotf, kind.__name__) is kind
    assert f"{kind.__module__}.{kind.__qualname__}" == f"yolotf.{kind.__name__}"
    assert f"| [`{kind.code}`](#{kind.code}) | `{kind.__name__}` |" in PAGE
    assert f"\n## {kind.code}\n" in PAGE


def test_no_two_kinds_share_a_code_and_the_page_has_no_others():
    codes = sorted(kind.code for kind in set(KINDS))
    assert len(set(codes)) == len(codes)
    assert sorted(re.findall(r"^## (\S+)$", PAGE, re.MULTILINE)) == codes


def test_facts_and_code_survive_a_pickle():
    error = pickle.loads(pickle.dumps(yolotf.HeaderError("a: short", expected=16, found=3)))
    assert (error.code, error.expected, error.found) == ("header", 16, 3)


def test_old_error_names_are_the_same_classes():
    assert yolotf.PlanError is yolotf.ModelMismatchError is errors.PlanError
