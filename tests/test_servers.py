"""The server of docs/servers.md answers as a Detector does."""

from pathlib import Path

import pytest

import yolotf
from support import pages

PAGE = Path(__file__).parents[1] / "docs/servers.md"


# Starlette's own, of its test client.
@pytest.mark.filterwarnings("ignore:Using `httpx` with")
def test_fastapi_answers_what_a_detector_finds(official_tiny):
    pytest.importorskip("fastapi", reason="needs fastapi")
    pytest.importorskip("httpx", reason="needs httpx")
    from fastapi.testclient import TestClient

    blocks = pages.blocks(PAGE.read_text())
    (content,) = (block.content for block in blocks if block.title == "web.py")
    content = content.replace("yolov4-tiny.weights", str(official_tiny.weights))
    content = content.replace("coco.names", str(official_tiny.names))
    module = {"__name__": "web"}
    exec(compile(content, "web.py", "exec"), module)
    image = official_tiny.bus
    with TestClient(module["app"]) as client:
        answer = client.post("/detect", content=image.read_bytes())
        assert answer.status_code == 200
        detector = yolotf.Detector(
            "yolov4-tiny", official_tiny.weights, class_names=official_tiny.names
        )
        assert answer.json() == detector(image).to_dict()
        refused = client.post("/detect", content=b"no image")
        assert (refused.status_code, "not a picture" in refused.json()["detail"]) == (400, True)
