"""An HTTP server with a Detector: POST an image, get its detections as JSON.

    pip install fastapi uvicorn
    yolotf demo && cd demo-output
    python ../examples/serve.py &
    curl --data-binary @bus.jpg localhost:8000/detect

`yolotf.ray` is a server with batching, replicas, limits and reloads.
"""

import fastapi

import yolotf

app = fastapi.FastAPI()
detector = yolotf.Detector("yolov4-tiny", "yolov4-tiny.weights")


@app.post("/detect")
def detect(body: bytes = fastapi.Body(media_type="application/octet-stream")) -> dict:
    """Returns the detections of an encoded image."""
    try:
        return detector(body).to_dict()  # a Detector is thread-safe
    except (OSError, ValueError) as error:
        raise fastapi.HTTPException(400, str(error)) from None


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, port=8000)
