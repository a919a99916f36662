"""Cfgs with every kind of section that graphs support."""

from support.cfgs import conv, maxpool, net, normalized, route, section, yolo

# Two heads, a route, a depthwise convolution; small enough to be built many times.
_HEAD = {"classes": 4, "anchors": "20,9, 30,30, 10,12"}
SMALL = (
    net(32, 64)
    + normalized(8, 3, stride=2)
    + normalized(8, 3, "mish", stride=2, groups=8)
    + maxpool(2)
    + normalized(12, 3, "swish")
    + conv(18)
    + yolo(mask="0,1", **_HEAD, scale_x_y=1.05, nms_kind="greedynms")
    + route(-3)
    + section("upsample", stride=2)
    + route(-1, 1)
    + conv(9)
    + yolo(mask="2", **_HEAD)
)


def branches(sections):
    """Returns a network in which each of `sections` reads layer 1, and all are joined."""
    text = "\n".join(f"[route]\nlayers=1\n{section}" for section in sections)
    ends = range(3, 2 + text.count("["), 2)
    return f"{text}\n[route]\nlayers={','.join(map(str, ends))}"


# Every kind of section that SMALL lacks, with odd numbers.
SECTIONS = {
    "batchnorm": "[batchnorm]",
    "connected": "[connected]\noutput=5\nbatch_normalize=1\nactivation=leaky",
    "local": "[local]\nfilters=5\nsize=3\npad=1\nstride=2\nactivation=leaky",
    "local_without_pad": "[local]\nfilters=5\nsize=2\nactivation=leaky",
    "local_overhanging": "[local]\nfilters=5\nsize=7\nstride=7\nactivation=leaky\n"
    "[convolutional]\nfilters=40\nactivation=linear",
    "groups": "[convolutional]\nbatch_normalize=1\nfilters=12\nsize=3\npad=1\ngroups=2\n"
    "activation=relu",
    "depthwise_multiplier": "[convolutional]\nbatch_normalize=1\nfilters=16\nsize=3\npad=1\n"
    "groups=8\nstride=2\nactivation=relu6",
    "dilation": "[convolutional]\nbatch_normalize=1\nfilters=5\nsize=3\npad=1\ndilation=2\n"
    "activation=leaky",
    "even_kernel": "[convolutional]\nfilters=5\nsize=4\nstride=3\npad=1\nactivation=logistic",
    "strides": "[convolutional]\nfilters=5\nsize=3\nstride_x=1\nstride_y=2\npadding=2\n"
    "activation=linear",
    # OpenVINO forgets such padding where it moves the stride to the operation before.
    "strided_1x1_with_padding": "[convolutional]\nfilters=5\nsize=1\nstride=2\npadding=1\n"
    "activation=linear",
    "depthwise_strides": "[convolutional]\nfilters=8\nsize=3\nstride_x=1\nstride_y=2\npad=1\n"
    "groups=8\nactivation=linear",
    "flipped": "[convolutional]\nbatch_normalize=1\nfilters=12\nsize=3\npad=1\nstride=2\n"
    "groups=4\nflipped=1\nactivation=leaky",
    "flipped_depthwise": "[convolutional]\nfilters=16\nsize=3\ngroups=8\nflipped=1\n"
    "activation=leaky",
    "antialiasing": "[convolutional]\nbatch_normalize=1\nfilters=8\nsize=3\npad=1\nstride=2\n"
    "groups=8\nactivation=leaky\nantialiasing=1",
    "antialiased_pool": "[maxpool]\nsize=3\nstride_x=2\nantialiasing=2",
    "xnor": "[convolutional]\nbatch_normalize=1\nxnor=1\nfilters=12\nsize=3\npad=1\n"
    "activation=leaky",
    # Wide enough for kernels in blocks; only signs are passed on.
    "xnor_wide": "[convolutional]\nfilters=32\nactivation=linear\n[convolutional]\n"
    "batch_normalize=1\nxnor=1\nfilters=512\nsize=3\nstride=2\npad=1\nbin_output=1\n"
    "activation=leaky",
    "shared_kernel": "[convolutional]\nbatch_normalize=1\nfilters=8\nsize=3\npad=1\n"
    "activation=leaky\n[convolutional]\nbatch_normalize=1\nfilters=8\nsize=3\npad=1\n"
    "share_index=-1\nstride=2\nactivation=linear",
    "maxpool_3_2": "[maxpool]\nsize=3\nstride=2",
    "maxpool_2_1": "[maxpool]\nsize=2\nstride=1",
    "maxpool_5_1": "[maxpool]\nsize=5\nstride=1",
    "maxpool_2_2": "[maxpool]\nsize=2\nstride=2",
    "maxpool_4_3_padding": "[maxpool]\nsize=4\nstride=3\npadding=1",
    "maxpool_no_padding": "[maxpool]\nsize=3\nstride=2\npadding=0",
    "maxpool_depth_before_a_strided_1x1": "[maxpool]\nmaxpool_depth=1\nout_channels=4\nsize=1\n"
    "[convolutional]\nfilters=5\nsize=1\nstride=2\nactivation=linear",
    "maxpool_depth": "[maxpool]\nmaxpool_depth=1\nout_channels=3\nsize=1",
    "local_avgpool": "[local_avgpool]\nsize=3\nstride=2",
    # OpenVINO takes factors of positions for factors of a kernel that has their shape.
    "local_avgpool_before_a_kernel_of_its_size": "[local_avgpool]\nsize=3\nstride_x=4\n"
    "stride_y=3\n[convolutional]\nfilters=5\nsize=2\npad=1\nactivation=linear",
    "local_avgpool_same": "[local_avgpool]\nsize=3\nstride=1",
    "avgpool": "[avgpool]",
    # OpenVINO fails where it moves the stride to the split.
    "split_before_a_strided_1x1": "[route]\nlayers=1\ngroups=2\n[route]\nlayers=1\ngroups=2\n"
    "group_id=1\n[shortcut]\nfrom=-2\n[convolutional]\nfilters=5\nsize=1\nstride=2\n"
    "activation=linear",
    "route_groups": "[route]\nlayers=-1,-2\ngroups=2\ngroup_id=1",
    "shortcut_of_a_biased_convolution": "[convolutional]\nfilters=8\nactivation=linear\n"
    "[shortcut]\nfrom=-2\nactivation=leaky",
    "shortcut": "[shortcut]\nfrom=-2\nactivation=leaky",
    "shortcut_fewer_channels": "[convolutional]\nfilters=5\nsize=1\n[shortcut]\nfrom=-2",
    "shortcut_more_channels": "[convolutional]\nfilters=11\nsize=1\n[shortcut]\nfrom=-2",
    "shortcut_per_feature": "[shortcut]\nfrom=-2,-1\nweights_type=per_feature\n"
    "weights_normalization=relu",
    "shortcut_per_channel": "[convolutional]\nfilters=11\nsize=1\n[shortcut]\nfrom=-2\n"
    "weights_type=per_channel\nweights_normalization=softmax",
    "scale_channels": "[avgpool]\n[convolutional]\nfilters=8\nactivation=logistic\n"
    "[scale_channels]\nfrom=-3\nactivation=relu",
    "sam": "[convolutional]\nfilters=8\nactivation=logistic\n[sam]\nfrom=-2",
    "upsample_scale": "[upsample]\nstride=3\nscale=0.5",
    "upsample_reverse": "[upsample]\nstride=-2",
    "reorg": "[reorg]\nstride=2",
    "reorg_reverse": "[reorg]\nstride=2\nreverse=1",
    "reorg3d": "[reorg3d]\nstride=2",
    "reorg3d_reverse": "[convolutional]\nfilters=32\n[reorg3d]\nstride=2\nreverse=1",
    "dropout": "[dropout]\nprobability=0.5",
    "softmax": "[softmax]\ngroups=2\ntemperature=0.5",
    "softmax_of_all": "[softmax]",
    "crop": "[crop]\ncrop_width=5\ncrop_height=4",
    "normalization": "[normalization]\nsize=5\nalpha=0.3\nbeta=0.75\nkappa=1",
    "implicit": "[implicit]\nfilters=6\natoms=2",
    "cost": "[cost]",
    "activations": branches(
        f"[activation]\nactivation={name}"
        for name in (
            *("elu", "gelu", "hardtan", "leaky", "lhtan", "linear", "loggy", "logistic", "plse"),
            *("ramp", "relie", "relu", "relu6", "revleaky", "selu", "stair", "tanh"),
        )
    ),
    "activations_of_convolutions": branches(
        f"[convolutional]\nfilters=5\nactivation={name}"
        for name in (
            *("hard_mish", "leaky", "mish", "normalize_channels", "normalize_channels_softmax"),
            *("normalize_channels_softmax_maxval", "relu", "swish"),
        )
    ),
}


def around(text):
    """Returns a network that ends with the sections of `text`, after two layers of 8x6x8."""
    before = normalized(8, 3, "linear")
    return net(6, 8) + 2 * before + text + "\n"
