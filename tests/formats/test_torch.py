"""`convert --layout torch`, loaded into PyTorch by `load_state_dict`; see `make test-torch`."""

import numpy as np
import pytest

from support.cfgs import conv, net, normalized, route, section, yolo
from support.onnx_engines import assert_close, pictures_for, runtime_heads, tame_file
from yolotf.darknet import cfg, stock
from yolotf.formats.convert import convert

torch = pytest.importorskip("torch", reason="needs PyTorch")
load_file = pytest.importorskip("safetensors.torch", reason="needs safetensors").load_file
pytestmark = pytest.mark.slow

ACTIVATIONS = {
    "leaky": lambda x: torch.nn.functional.leaky_relu(x, 0.1),
    "linear": lambda x: x,
    "mish": torch.nn.functional.mish,
    "relu": torch.relu,
    "logistic": torch.sigmoid,
}


class PyTorchDarknet(torch.nn.Module):
    """A network as people write it in PyTorch: a module named after each section with weights."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        for layer in network.layers:
            for name, module in modules(layer).items():
                self.add_module(name, module)

    def forward(self, x):
        outputs, heads = [], []
        for layer in self.network.layers:
            if layer.ends_graph:
                heads.append(x)
            else:
                x = self.computed(layer, x, outputs)
            outputs.append(x)
        return heads or [x]

    def computed(self, layer, x, outputs):
        number = layer.index
        if layer.type == "convolutional" or layer.type == "connected":
            x = self.get_submodule(layer.name)(x if layer.type == "convolutional" else x.flatten(1))
            if layer.batch_normalize:
                x = self.get_submodule(f"bn_{number}")(x)
            return ACTIVATIONS[layer.activation](x)
        if layer.type == "batchnorm":
            return self.get_submodule(f"bn_{number}")(x)
        if layer.type == "maxpool":
            before, after = layer.total_padding // 2, layer.total_padding - layer.total_padding // 2
            padded = torch.nn.functional.pad(x, (before, after) * 2, value=-torch.inf)
            return torch.nn.functional.max_pool2d(padded, layer.size, layer.stride_x)
        if layer.type == "route":
            groups, group = layer.groups, layer.group_id
            inputs = [outputs[index].chunk(groups, 1)[group] for index in layer.inputs]
            return torch.cat(inputs, 1)
        if layer.type == "shortcut":
            return ACTIVATIONS[layer.activation](sum(outputs[index] for index in layer.inputs))
        assert layer.type == "upsample", layer.type
        return torch.nn.functional.interpolate(x, scale_factor=layer.stride)


def modules(layer):
    """PyTorch's layers of a section, by name."""
    channels, outputs = layer.input_shape.channels, layer.output_shape.channels
    named = {}
    if layer.type == "convolutional":
        named[layer.name] = torch.nn.Conv2d(
            channels,
            outputs,
            layer.size,
            (layer.stride_y, layer.stride_x),
            layer.padding * layer.dilation,  # as Darknet does
            layer.dilation,
            layer.groups,
            bias=not layer.batch_normalize,
        )
        if layer.batch_normalize:
            named[f"bn_{layer.index}"] = torch.nn.BatchNorm2d(outputs)
    elif layer.type == "connected":
        pixels = layer.input_shape.height * layer.input_shape.width
        named[layer.name] = torch.nn.Linear(
            pixels * channels, outputs, bias=not layer.batch_normalize
        )
        if layer.batch_normalize:
            named[f"bn_{layer.index}"] = torch.nn.BatchNorm1d(outputs)
    elif layer.type == "batchnorm":
        named[f"bn_{layer.index}"] = torch.nn.BatchNorm2d(outputs)
    return named


CONNECTED = "[connected]\noutput=5\nactivation=leaky\n"
NETWORKS = {
    "yolov4-tiny": lambda: stock.network("yolov4-tiny", classes=3, size=(64, 96)),
    "yolov4": lambda: stock.network("yolov4", classes=3, size=(64, 96)),
    "groups": lambda: net(16, 24) + normalized(8, 3, stride=2) + conv(12, 3, groups=4) + HEAD,
    "depthwise": lambda: net(16, 24) + normalized(8) + normalized(16, 3, groups=8) + HEAD,
    "dilation": lambda: net(16, 24) + normalized(8, 3, dilation=2) + HEAD,
    "flipped": lambda: net(16, 24) + conv(8, 3, flipped=1) + normalized(6, 3, flipped=1) + HEAD,
    "bias_only": lambda: net(16, 24) + conv(8, 3) + conv(7, 1) + HEAD,
    "batchnorm": lambda: net(16, 24) + conv(8, 3) + "[batchnorm]\n" + HEAD,
    "connected": lambda: net(8, 6) + normalized(4, 3, stride=2) + CONNECTED,
    "normalized_connected": lambda: net(8, 6) + conv(4) + CONNECTED + "batch_normalize=1\n",
    "shortcut": lambda: net(16, 24) + 2 * conv(8, 3) + section("shortcut", **{"from": -2}) + HEAD,
    "route": lambda: net(16, 24) + 2 * conv(8) + route(-1, -2) + HEAD,
}
HEAD = conv(18) + yolo()


@pytest.mark.parametrize("name", NETWORKS)
def test_pytorch_loads_every_array_and_computes_the_same(name, tmp_path):
    made = NETWORKS[name]()
    network = cfg.parse_cfg(made) if isinstance(made, str) else made
    weights, output = tmp_path / "a.weights", tmp_path / "a.safetensors"
    weights.write_bytes(tame_file(network))
    convert(weights, network, output, layout="torch")
    model = PyTorchDarknet(network).eval()
    model.load_state_dict(load_file(output))  # strict: no array too many, none missing
    images = pictures_for(network, batch=2)
    with torch.no_grad():
        answers = [head.numpy() for head in model(torch.from_numpy(images))]
    expected = runtime_heads(network, weights, images)
    assert_close(
        [answer.reshape(head.shape) for answer, head in zip(answers, expected, strict=True)],
        expected,
    )
    assert all(np.abs(head).max() > 0 for head in expected)
