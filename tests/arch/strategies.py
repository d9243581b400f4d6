"""Random valid architectures, small enough to be built with weights in tests."""

import math

from hypothesis import strategies as st

from nas_t2i.arch.families.if_unet import IFUNet
from nas_t2i.arch.families.pixart import PixArt
from nas_t2i.arch.families.unet import UNet


@st.composite
def unets(draw: st.DrawFn) -> UNet:
    head_dim, norm_groups = draw(st.sampled_from([2, 4, 8])), draw(st.sampled_from([1, 3, 4, 8]))
    mult = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    depth = draw(st.lists(st.integers(0, 2), min_size=len(mult), max_size=len(mult)))
    mid = draw(st.sampled_from([0, depth[-1]]) if depth[-1] else st.integers(0, 2))
    return UNet(
        channels=math.lcm(head_dim, norm_groups) * draw(st.integers(1, 2)),
        channel_mult=tuple(mult),
        res_blocks=draw(st.integers(1, 2)),
        transformer_depth=tuple(depth),
        mid_depth=mid,
        head_dim=head_dim,
        norm_groups=norm_groups,
        text_dim=draw(st.sampled_from([6, 16])),
        latent_channels=draw(st.sampled_from([1, 4, 16])),
    )


@st.composite
def if_unets(draw: st.DrawFn) -> IFUNet:
    head_dim, norm_groups = draw(st.sampled_from([2, 4, 8])), draw(st.sampled_from([1, 3, 4]))
    mult = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    depth = draw(st.lists(st.integers(0, 1), min_size=len(mult), max_size=len(mult)))
    return IFUNet(
        channels=math.lcm(head_dim, norm_groups) * draw(st.integers(1, 2)),
        channel_mult=tuple(mult),
        res_blocks=draw(st.integers(1, 3)),
        transformer_depth=tuple(depth),
        mid_depth=draw(st.integers(0, 1)),
        head_dim=head_dim,
        norm_groups=norm_groups,
        text_dim=draw(st.sampled_from([32, 64])),
        latent_channels=draw(st.sampled_from([1, 4])),
    )


@st.composite
def pixarts(draw: st.DrawFn) -> PixArt:
    heads, head_dim = draw(st.sampled_from([1, 2, 3])), draw(st.sampled_from([4, 8, 20]))
    caption = draw(st.booleans())
    return PixArt(
        hidden=heads * head_dim,
        depth=draw(st.integers(1, 3)),
        heads=heads,
        patch=draw(st.sampled_from([1, 2, 4])),
        caption_embedding=caption,
        text_dim=draw(st.sampled_from([5, 16])) if caption else heads * head_dim,
        latent_channels=draw(st.sampled_from([1, 4])),
    )


archs = st.one_of(unets(), if_unets(), pixarts())
