"""Bad search-space files, and the one line that each of them must cause, word for word."""

HEAD = "name: s\nfamily: unet\nparameters:\n"
LEVELS = "  channels: 320\n  channel_mult: [1, 2, 4]\n"

# What is wrong -> (the file, the line without "nas-t2i: error: ").
CASES: dict[str, tuple[str, str]] = {
    "a tab": (
        HEAD + "\tchannels: 320\n",
        "space.yaml:4:1: a tab in the indentation; expected spaces",
    ),
    "a key twice": (
        HEAD + ("  channels: 320\n  channels: 192\n"),
        "space.yaml:5:3: parameters.channels: duplicate key 'channels' (first on line 4); "
        "expected each key once",
    ),
    "a rate twice": (
        HEAD + LEVELS + "  transformer_depth: {2: 2, 4: 2, 2: 4}\n",
        "space.yaml:6:35: parameters.transformer_depth.2: duplicate key 2 (first on line 6); "
        "expected each key once",
    ),
    "an unknown key": (
        "name: s\nfamly: unet\nparameters: {}\n",
        "space.yaml:2:1: famly: unknown key 'famly'; expected one of family, include, limits,"
        " name, parameters; did you mean 'family'?",
    ),
    "an unknown parameter": (
        HEAD + ("  chanels: 320\n  channel_mult: [1,2,4]\n"),
        "space.yaml:4:3: parameters.chanels: unknown parameter 'chanels'; expected one of "
        "attention_resolutions, channel_mult, channels, head_dim, latent_channels, mid_depth,"
        " norm_groups, res_blocks, text_dim, transformer_depth; did you mean 'channels'?",
    ),
    "an unknown family": (
        "name: s\nfamily: unett\nparameters: {channels: 320}\n",
        'space.yaml:2:1: family: got "unett"; expected one of if_unet, pixart, unet; did you '
        "mean 'unet'?",
    ),
    "a family that is no text": (
        "name: s\nfamily: 3\nparameters: {channels: 320}\n",
        "space.yaml:2:1: family: got 3; expected text",
    ),
    "parameters without a family": (
        "name: s\nparameters: {channels: 320}\n",
        "space.yaml:2:1: parameters: the key 'family' is missing; expected both, or neither",
    ),
    "a family without parameters": (
        "name: s\nfamily: unet\n",
        "space.yaml:2:1: family: the key 'parameters' is missing; expected both, or neither",
    ),
    "nothing but limits": (
        "name: s\nlimits: {params: {max: 3}}\n",
        "space.yaml:1:1: no architecture; expected 'family' and 'parameters', or 'include'",
    ),
    "parameters that are no mapping": (
        "name: s\nfamily: unet\nparameters: [1]\n",
        "space.yaml:3:1: parameters: got [1]; expected a mapping of keys to values",
    ),
    "a parameter missing": (
        HEAD + "  channels: 320\n",
        "space.yaml:3:1: parameters: the key 'channel_mult' is missing",
    ),
    "a text for a number": (
        HEAD + ("  channels: wide\n  channel_mult: [1,2,4]\n  transformer_depth: {4: 1}\n"),
        'space.yaml:4:3: parameters.channels: got "wide"; expected a whole number from 1 to 16384',
    ),
    "a fraction for a whole number": (
        HEAD + ("  channels: 320.0\n  channel_mult: [1,2,4]\n  transformer_depth: {4: 1}\n"),
        "space.yaml:4:3: parameters.channels: got 320.0; expected a whole number from 1 to 16384",
    ),
    "a truth value for a number": (
        HEAD + ("  channels: true\n  channel_mult: [1,2,4]\n  transformer_depth: {4: 1}\n"),
        "space.yaml:4:3: parameters.channels: got true; expected a whole number from 1 to 16384",
    ),
    "a list without choice": (
        HEAD + ("  channels: [128, 320]\n  channel_mult: [1,2,4]\n  transformer_depth: {4: 1}\n"),
        "space.yaml:4:3: parameters.channels: got [128, 320]; expected a whole number from "
        "1 to 16384",
    ),
    "a number for a list": (
        HEAD + ("  channels: 320\n  channel_mult: 4\n  transformer_depth: {4: 1}\n"),
        "space.yaml:5:3: parameters.channel_mult: got 4; expected a list, or {choice: [...]} "
        "of lists",
    ),
    "an empty choice": (
        HEAD + ("  channels: {choice: []}\n  channel_mult: [1,2,4]\n  transformer_depth: {4: 1}\n"),
        "space.yaml:4:14: parameters.channels.choice: an empty choice; expected one option at"
        " least",
    ),
    "a choice of nothing": (
        HEAD + ("  channels: {choice: }\n  channel_mult: [1,2,4]\n  transformer_depth: {4: 1}\n"),
        "space.yaml:4:14: parameters.channels.choice: got null; expected a list of options, "
        "or a mapping of names to options",
    ),
    "an empty mapping": (
        HEAD + ("  channels: {}\n  channel_mult: [1,2,4]\n  transformer_depth: {4: 1}\n"),
        "space.yaml:4:3: parameters.channels: got {}; expected {choice: [...]} or {range: "
        "[lo, hi, step]}",
    ),
    "a choice twice": (
        HEAD
        + (
            "  channels: {choice: [128, 320, 128]}\n"
            "  channel_mult: [1,2,4]\n"
            "  transformer_depth: {4: 1}\n"
        ),
        "space.yaml:4:33: parameters.channels.choice[2]: duplicate choice 128; expected each "
        "option once",
    ),
    "a list twice under two names": (
        HEAD
        + (
            "  channels: 320\n"
            "  channel_mult: {choice: {a: [1,2,4], b: [1, 2, 4]}}\n"
            "  transformer_depth: {4: 1}\n"
        ),
        'space.yaml:5:39: parameters.channel_mult.choice.b: duplicate choice "b"; expected '
        "each option once",
    ),
    "a choice and a range": (
        HEAD
        + (
            "  channels: {choice: [128], range: [1, 2]}\n"
            "  channel_mult: [1,2,4]\n"
            "  transformer_depth: {4: 1}\n"
        ),
        'space.yaml:4:3: parameters.channels: got {"choice": [128], "range": [1, 2]}; '
        "expected {choice: [...]} or {range: [lo, hi, step]}",
    ),
    "a misspelt choice": (
        HEAD
        + ("  channels: {choices: [128]}\n  channel_mult: [1,2,4]\n  transformer_depth: {4: 1}\n"),
        "space.yaml:4:14: parameters.channels.choices: unknown key 'choices'; expected "
        "{choice: [...]} or {range: [lo, hi, step]}; did you mean 'choice'?",
    ),
    "a range downwards": (
        HEAD
        + (
            "  channels: {range: [320, 128, 64]}\n"
            "  channel_mult: [1,2,4]\n"
            "  transformer_depth: {4: 1}\n"
        ),
        "space.yaml:4:14: parameters.channels.range: lo 320 is above hi 128; expected lo <= hi",
    ),
    "a range without a step": (
        HEAD
        + (
            "  channels: {range: [128, 320, 0]}\n"
            "  channel_mult: [1,2,4]\n"
            "  transformer_depth: {4: 1}\n"
        ),
        "space.yaml:4:32: parameters.channels.range[2]: got the step 0; expected 1 at least",
    ),
    "a range without an end": (
        HEAD
        + ("  channels: {range: [128]}\n  channel_mult: [1,2,4]\n  transformer_depth: {4: 1}\n"),
        "space.yaml:4:14: parameters.channels.range: got [128]; expected [lo, hi] or [lo, hi,"
        " step], whole numbers",
    ),
    "a range of fractions": (
        HEAD
        + (
            "  channels: {range: [128, 320, 64.0]}\n"
            "  channel_mult: [1,2,4]\n"
            "  transformer_depth: {4: 1}\n"
        ),
        "space.yaml:4:14: parameters.channels.range: got [128, 320, 64.0]; expected [lo, hi] "
        "or [lo, hi, step], whole numbers",
    ),
    "a range below zero": (
        HEAD + LEVELS + "  transformer_depth: {4: {range: [-1, 4]}}\n",
        "space.yaml:6:35: parameters.transformer_depth.4.range[0]: got -1; expected a whole "
        "number from 0 to 512",
    ),
    "a range too long": (
        HEAD
        + (
            "  channels: {range: [1, 100000000]}\n"
            "  channel_mult: [1,2,4]\n"
            "  transformer_depth: {4: 1}\n"
        ),
        "space.yaml:4:14: parameters.channels.range: a range of 100000000 values; expected "
        "10000 at most",
    ),
    "a range of lists": (
        HEAD + ("  channels: 320\n  channel_mult: {range: [1,4]}\n  transformer_depth: {4: 1}\n"),
        "space.yaml:5:18: parameters.channel_mult.range: got the range [1, 4]; expected "
        "{choice: [...]}; a range is of whole numbers",
    ),
    "a choice of choices": (
        HEAD
        + (
            "  channels: {choice: [128, {choice: [192, 320]}]}\n"
            "  channel_mult: [1,2,4]\n"
            "  transformer_depth: {4: 1}\n"
        ),
        'space.yaml:4:28: parameters.channels.choice[1]: got {"choice": [192, 320]}; expected'
        " one level of choices",
    ),
    "lengths that disagree": (
        HEAD + LEVELS + "  transformer_depth: [0, 2, 10, 0]\n",
        "space.yaml:6:3: parameters.transformer_depth: nothing can be built: got 4 values; "
        "expected 3, one for each level of channel_mult",
    ),
    "one length among two that disagrees": (
        HEAD
        + (
            "  channels: 320\n"
            "  channel_mult: {choice: {sdxl: [1, 2, 4], sd2: [1, 2, 4, 4]}}\n"
            "  transformer_depth: [0, 2, 10]\n"
        ),
        "space.yaml:5:44: parameters.channel_mult.choice.sd2: nothing can be built with "
        '"sd2": transformer_depth: got 3 values; expected 4, one for each level of '
        "channel_mult",
    ),
    "no levels": (
        HEAD + ("  channels: 320\n  channel_mult: []\n  transformer_depth: {1: 1}\n"),
        "space.yaml:5:3: parameters.channel_mult: got []; expected one item a level",
    ),
    "channels no norm group divides": (
        HEAD + ("  channels: 100\n  channel_mult: [1, 2, 4]\n  transformer_depth: {2: 2, 4: 10}\n"),
        "space.yaml:4:3: parameters.channels: nothing can be built: got 100 channels x 1 = "
        "100 at rate 1; expected a multiple of norm_groups = 32",
    ),
    "channels no head divides": (
        HEAD + ("  channels: 96\n  channel_mult: [1, 2, 4]\n  transformer_depth: {1: 1, 4: 10}\n"),
        "space.yaml:4:3: parameters.channels: nothing can be built: got 96 channels x 1 = 96 "
        "at rate 1; expected a multiple of head_dim = 64",
    ),
    "one choice of channels no norm group divides": (
        HEAD
        + (
            "  channels: {choice: [128, 200, 320]}\n"
            "  channel_mult: [1, 2, 4]\n"
            "  transformer_depth: {2: 2, 4: 10}\n"
        ),
        "space.yaml:4:28: parameters.channels.choice[1]: nothing can be built with 200: "
        "channels: got 200 channels x 1 = 200 at rate 1; expected a multiple of norm_groups ="
        " 32",
    ),
    "a range of channels no norm group divides": (
        HEAD
        + (
            "  channels: {range: [100, 120, 10]}\n"
            "  channel_mult: [1, 2, 4]\n"
            "  transformer_depth: {2: 2, 4: 10}\n"
        ),
        "space.yaml:4:3: parameters.channels: nothing can be built: got 100 channels x 1 = "
        "100 at rate 1; expected a multiple of norm_groups = 32",
    ),
    "a negative depth": (
        HEAD + LEVELS + "  transformer_depth: {2: 2, 4: -1}\n",
        "space.yaml:6:29: parameters.transformer_depth.4: got -1; expected a whole number from "
        "0 to 512",
    ),
    "a negative depth among choices": (
        HEAD + LEVELS + ("  transformer_depth:\n    2: 2\n    4: {choice: [2, -4]}\n"),
        "space.yaml:8:21: parameters.transformer_depth.4.choice[1]: got -4; expected a whole "
        "number from 0 to 512",
    ),
    "a rate no level can have": (
        HEAD + LEVELS + "  transformer_depth: {2: 2, 3: 1}\n",
        "space.yaml:6:29: parameters.transformer_depth.3: got the rate 3; expected the "
        "down-sampling rate of a level: 1, 2, 4, 8, ...",
    ),
    "a rate twice, once as a text": (
        HEAD + LEVELS + '  transformer_depth: {2: 2, "2": 4}\n',
        "space.yaml:6:29: parameters.transformer_depth.2: the rate 2 again; expected each "
        "rate once",
    ),
    "a rate that is a text": (
        HEAD + LEVELS + "  transformer_depth: {2: 2, 4x: 1}\n",
        'space.yaml:6:29: parameters.transformer_depth.4x: got the rate "4x"; expected the '
        "down-sampling rate of a level: 1, 2, 4, 8, ...",
    ),
    "a depth below the deepest level": (
        HEAD + LEVELS + "  transformer_depth: {2: 2, 8: 1}\n",
        "space.yaml:6:29: parameters.transformer_depth.8: a depth that is never used: no "
        "level at rate 8 ever has attention; expected 0, or 8 in attention_resolutions and a "
        "level for it in channel_mult",
    ),
    "a depth where nothing attends": (
        HEAD + LEVELS + ("  attention_resolutions: [4]\n  transformer_depth: {2: 2, 4: 1}\n"),
        "space.yaml:7:23: parameters.transformer_depth.2: a depth that is never used: no "
        "level at rate 2 ever has attention; expected 0, or 2 in attention_resolutions and a "
        "level for it in channel_mult",
    ),
    "attention without a depth": (
        HEAD + LEVELS + ("  attention_resolutions: [4, 2]\n  transformer_depth: {4: 1}\n"),
        "space.yaml:7:3: parameters.transformer_depth: nothing can be built: no depth at rate"
        " 2; expected one at every rate of attention_resolutions [4, 2]",
    ),
    "attention below the deepest level": (
        HEAD + LEVELS + ("  attention_resolutions: [8, 4]\n  transformer_depth: {4: 1, 8: 0}\n"),
        "space.yaml:6:27: parameters.attention_resolutions[0]: got the rate 8, which no level"
        " has; expected one of 1, 2, 4",
    ),
    "attention at a rate no level can have": (
        HEAD + LEVELS + ("  attention_resolutions: [4, 3]\n  transformer_depth: {4: 1}\n"),
        "space.yaml:6:30: parameters.attention_resolutions[1]: got 3; expected a "
        "down-sampling rate: 1, 2, 4, 8, ...",
    ),
    "a mid depth the family does not have": (
        HEAD + LEVELS + ("  transformer_depth: {4: 2}\n  mid_depth: 3\n"),
        "space.yaml:7:3: parameters.mid_depth: nothing can be built: got 3; expected 0 or 2, "
        "the transformer_depth of the deepest level",
    ),
    "a depth above the family's": (
        "name: s\n"
        "family: if_unet\n"
        "parameters:\n"
        "  channels: 320\n"
        "  channel_mult: [1, 2, 4]\n"
        "  transformer_depth: {4: 2}\n",
        "space.yaml:6:23: parameters.transformer_depth.4: got 2; expected a whole number from"
        " 0 to 1",
    ),
    "a width no head divides": (
        "name: s\nfamily: pixart\nparameters:\n  hidden: 1000\n  depth: 28\n",
        "space.yaml:4:3: parameters.hidden: nothing can be built: got 1000; expected a "
        "multiple of heads = 16",
    ),
    "text of another width": (
        "name: s\n"
        "family: pixart\n"
        "parameters:\n"
        "  hidden: 1152\n"
        "  depth: 28\n"
        "  caption_embedding: false\n",
        "space.yaml:6:3: parameters.caption_embedding: nothing can be built: got false with "
        "hidden 1152 and text_dim 1024; expected true, or equal widths",
    ),
    "a text for a truth value": (
        "name: s\n"
        "family: pixart\n"
        "parameters:\n"
        "  hidden: 1152\n"
        "  depth: 28\n"
        "  caption_embedding: maybe\n",
        'space.yaml:6:3: parameters.caption_embedding: got "maybe"; expected true or false',
    ),
    "an unknown backbone": (
        "name: s\ninclude: [SDXL-C320, SDXL-TD44]\n",
        "space.yaml:2:22: include[1]: got 'SDXL-TD44'; expected the name of a backbone of the"
        " paper; did you mean 'SDXL-TD4_4'?",
    ),
    "a backbone twice": (
        "name: s\ninclude: [SDXL-C320, SDXL-C320]\n",
        "space.yaml:2:22: include[1]: the name 'SDXL-C320' again; expected not that of include[0]",
    ),
    "a backbone spelled out again": (
        "name: s\n"
        "include:\n"
        "  - SDXL-C320\n"
        "  - {name: mine, family: unet, channels: 320, channel_mult: [1, 2, 4], "
        "transformer_depth: {2: 2, 4: 10}}\n",
        "space.yaml:4:5: include[1]: mine is the same architecture as include[0], SDXL-C320",
    ),
    "an included architecture with a negative depth": (
        "name: s\n"
        "include:\n"
        "  - {name: mine, family: unet, channels: 320, channel_mult: [1, 2, 4], "
        "transformer_depth: {2: 2, 4: -1}}\n",
        "space.yaml:3:98: include[0].transformer_depth.4: got -1; expected a whole number of "
        "at least 0",
    ),
    "an included architecture with an unknown key": (
        "name: s\n"
        "include:\n"
        "  - {nam: mine, family: unet, channels: 320, channel_mult: [1, 2, 4], "
        "transformer_depth: {2: 2}}\n",
        "space.yaml:3:6: include[0].nam: unknown key 'nam'; expected one of channel_mult, "
        "channels, head_dim, latent_channels, mid_depth, norm_groups, res_blocks, text_dim, "
        "transformer_depth",
    ),
    "an included number": (
        "name: s\ninclude: [3]\n",
        "space.yaml:2:11: include[0]: got 3; expected a catalogue name or a mapping",
    ),
    "a backbone without a list": (
        "name: s\ninclude: SDXL-C320\n",
        'space.yaml:2:1: include: got "SDXL-C320"; expected a list',
    ),
    "an unknown limit": (
        "name: s\ninclude: [SDXL-C320]\nlimits: {parms: {max: 3.0e9}}\n",
        "space.yaml:3:10: limits.parms: unknown key 'parms'; expected one of attention_share,"
        " gmacs, latency, params; did you mean 'params'?",
    ),
    "a limit without a side": (
        "name: s\ninclude: [SDXL-C320]\nlimits: {params: 3.0e9}\n",
        "space.yaml:3:10: limits.params: got 3000000000.0; expected a mapping of keys to values",
    ),
    "a limit that is a text": (
        "name: s\ninclude: [SDXL-C320]\nlimits: {params: {max: 3B}}\n",
        'space.yaml:3:19: limits.params.max: got "3B"; expected a number',
    ),
    "a limit without a value": (
        "name: s\ninclude: [SDXL-C320]\nlimits: {params: {}}\n",
        "space.yaml:3:10: limits.params: no bound; expected min, max or both",
    ),
    "a limit upside down": (
        "name: s\ninclude: [SDXL-C320]\nlimits: {params: {min: 3, max: 2}}\n",
        "space.yaml:3:10: limits.params: min 3 is above max 2",
    ),
    "a share in percent": (
        "name: s\ninclude: [SDXL-C320]\nlimits: {attention_share: {max: 64}}\n",
        "space.yaml:3:28: limits.attention_share.max: got 64; expected at most 1.0",
    ),
    "a limit that is no number": (
        "name: s\ninclude: [SDXL-C320]\nlimits: {params: {max: .nan}}\n",
        "space.yaml:3:19: limits.params.max: got NaN; expected a finite number",
    ),
    "a negative limit": (
        "name: s\ninclude: [SDXL-C320]\nlimits: {params: {max: -1}}\n",
        "space.yaml:3:19: limits.params.max: got -1; expected at least 0.0",
    ),
    "an included architecture above a limit": (
        "name: s\ninclude: [SDXL-C128, SDXL-C320]\nlimits: {params: {max: 1.0e9}}\n",
        "space.yaml:2:22: include[1]: SDXL-C320: params 2,391,824,644 is above the limit "
        "1,000,000,000; expected included entries within the limits",
    ),
    "a limit below the smallest": (
        HEAD
        + LEVELS
        + (
            "  transformer_depth: {2: 2, 4: {choice: [10, 4]}}\n"
            "limits:\n"
            "  params:\n"
            "    max: 1.0e9\n"
        ),
        "space.yaml:9:5: limits.params.max: no architecture has at most 1,000,000,000; "
        "expected at least 1,234,986,244, the smallest in the space (SDXL-TD4)",
    ),
    "a limit above the largest": (
        HEAD
        + LEVELS
        + ("  transformer_depth: {2: 2, 4: {choice: [10, 4]}}\nlimits: {gmacs: {min: 300}}\n"),
        "space.yaml:7:18: limits.gmacs.min: no architecture has at least 300; expected at "
        "most 200.915, the largest in the space (SDXL-C320)",
    ),
    "limits that exclude each other": (
        HEAD
        + LEVELS
        + (
            "  transformer_depth: {2: 2, 4: {choice: [10, 4]}}\n"
            "limits: {params: {max: 1.5e9}, attention_share: {min: 0.6}}\n"
        ),
        "space.yaml:7:1: limits: none of all 2 architectures is inside them; e.g. "
        "unet-C320-m1.2.4-TD0.2.4: attention_share 0.593151 is below the limit 0.6",
    ),
    "a name with a space": (
        "name: a b\ninclude: [SDXL-C320]\n",
        'space.yaml:1:1: name: got "a b"; expected text that matches ^[A-Za-z0-9][A-Za-z0-9._-]*$',
    ),
    "a file of another kind": (
        "title: x\n",
        "space.yaml:1:1: neither a search space nor a budget; expected the keys of a space "
        "(family, parameters, include, limits) or of a budget (data, training, evaluation, "
        "rungs, ...)",
    ),
    "an empty file": (
        "",
        "space.yaml: the file is empty; expected a mapping of keys to values",
    ),
    "a file of comments": (
        "# only\n",
        "space.yaml: the file is empty; expected a mapping of keys to values",
    ),
    "a file cut in a list": (
        HEAD + "  channels: {choice: [128, 19",
        "space.yaml:4:30: not valid YAML: while parsing a flow sequence expected ',' or ']', "
        "but got '<stream end>'",
    ),
    "a file cut in a text": (
        HEAD + '  channels: "12',
        "space.yaml:4:16: not valid YAML: while scanning a quoted scalar found unexpected end"
        " of stream",
    ),
    "two documents": (
        "name: s\n---\nname: t\n",
        "space.yaml:2:1: not valid YAML: expected a single document in the stream but found "
        "another document",
    ),
    "an anchor in itself": (
        "name: s\ninclude: &a [*a]\n",
        "space.yaml:2:10: include[0]: an anchor that contains itself",
    ),
    "a tag": (
        "name: !!python/name:os.system x\n",
        "space.yaml:1:7: name: the YAML tag 'tag:yaml.org,2002:python/name:os.system'; "
        "expected plain values, no tags",
    ),
    "a list at the top": (
        "- name: s\n",
        'space.yaml:1:1: got [{"name": "s"}]; expected a mapping of keys to values',
    ),
    "no residual blocks": (
        HEAD + LEVELS + ("  res_blocks: 0\n  transformer_depth: {2: 2}\n"),
        "space.yaml:6:3: parameters.res_blocks: got 0; expected a whole number from 1 to 64",
    ),
    "a name that is a number": (
        HEAD
        + (
            "  channels: {choice: {1: 320}}\n  channel_mult: [1,2,4]\n  transformer_depth: {4: 1}\n"
        ),
        "space.yaml:4:23: parameters.channels.choice.1: got the name 1; expected a name that "
        "is a text",
    ),
    "a colon forgotten": (
        "name s\nfamily: unet\n",
        "space.yaml:2:7: not valid YAML: mapping values are not allowed here",
    ),
}
