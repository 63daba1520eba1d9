"""The OpenAPI document is true, and nothing that it allows to be asked breaks the server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import ColourModel
from live import listening

import wordsight
from wordsight.web.app import create_app

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")

from hypothesis import HealthCheck, Phase, given, settings  # noqa: E402


@pytest.fixture
def schema(tmp_path: Path, photos: Callable[..., Path], model: ColourModel) -> Iterator[Any]:
    library = wordsight.create(tmp_path / "lib", model)  # type: ignore[arg-type]
    library.index(photos(red=3, blue=3))
    with listening(create_app(library)) as url:
        yield schemathesis.openapi.from_url(f"{url}/api/v1/openapi.json")


def test_no_request_breaks_the_server(schema: Any) -> None:
    checks = schemathesis.specs.openapi.checks
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 15
    for operation in operations:

        @given(case=operation.as_strategy())
        @settings(
            max_examples=20,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def check(case: Any) -> None:
            response = case.call()
            assert response.status_code < 500, f"{case.method} {case.path}: {response.text}"
            case.validate_response(
                response,
                checks=[
                    checks.status_code_conformance,
                    checks.content_type_conformance,
                    checks.response_schema_conformance,
                ],
            )

        check()
