"""Models that people saved with earlier versions."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from yolotf.models.keras_module import keras

SAVED = Path(__file__).parents[1] / "data/saved_by_0.1.0.keras"
# What the version that saved it answered to PICTURE: [1, 2, 2, 4].
ANSWER = [
     94.177025,  66.62058 ,  82.99433 ,  84.86686 , 128.57341 , 119.70657 , 123.0259  ,
    132.0902  , 118.87966 , 104.03738 , 107.63521 , 123.64448 , 169.10162 , 160.7334  ,
    162.55736 , 188.17653 ,
]  # fmt: skip
PICTURE = np.linspace(0, 1, 8 * 8 * 2, dtype=np.float32).reshape(1, 8, 8, 2)


def test_a_model_saved_before_the_sub_packages_answers_the_same():
    import yolotf.keras_layers  # noqa: F401 - the documented import registers the layers

    model = keras().saving.load_model(SAVED)
    np.testing.assert_allclose(model(PICTURE).numpy().ravel(), ANSWER, rtol=1e-5)


def test_the_documented_import_is_enough_in_a_fresh_process():
    code = (
        "import sys, yolotf.keras_layers, keras\n"
        "print(len(keras.saving.load_model(sys.argv[1]).layers))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(SAVED)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) > 10


def test_old_and_new_import_paths_give_one_module():
    import yolotf.keras_layers

    import yolotf.inference
    from yolotf import cfg, inference
    from yolotf.darknet import cfg as same_cfg
    from yolotf.models import keras_layers

    assert yolotf.keras_layers is keras_layers
    assert yolotf.inference is inference
    assert cfg is same_cfg
