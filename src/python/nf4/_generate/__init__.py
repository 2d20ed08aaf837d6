"""transformers' generate() for models in NF4, with a decoding step that torch.compile made.

    hooks.py       two methods of its GenerationMixin, replaced while anyone wants them to be
    obstacles.py   what keeps a step from being compiled
    steps.py       how a step is compiled: CUDA graphs, and the memory of caches that they are bound to
    automatic.py   what the plug-in does: a static cache has the step compiled, as for dense models
    compiled.py    nf4.compile(), for one model: the static cache too

The engine is transformers' own: its static cache, its compile_config, its loop. Calls that are not known to work
compiled go the way that they went before.
"""
