"""How large an architecture may be: refused beyond, before anything is built.

Generous, from the largest models that have been trained: the widest transformers are 16,384 wide
and 126 blocks deep, the UNets of the paper 2,816 wide with 70 transformer blocks. Without bounds a
slip of the keyboard (a depth of 1,000,000) takes minutes and gigabytes to be counted.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

MOST_WIDTH = 16_384  # channels of a level, hidden width
MOST_LEVELS = 8
MOST_RES_BLOCKS = 64  # of a level
MOST_DEPTH = 512  # transformer blocks in one attention module, or of a transformer
MOST_BLOCKS = 1_000  # residual and transformer blocks of a whole UNet
MOST_TEXT_WIDTH = 65_536
MOST_LATENT_CHANNELS = 4_096  # 3 colours of 32 x 32 pixels, with room
MOST_PATCH = 64  # latent pixels

Width = Annotated[int, Field(ge=1, le=MOST_WIDTH)]
TextWidth = Annotated[int, Field(ge=1, le=MOST_TEXT_WIDTH)]
LatentChannels = Annotated[int, Field(ge=1, le=MOST_LATENT_CHANNELS)]
