"""Figures of published models' config.json, as far as they say what layers there are and how large, and their sources.

Each figure is out of a public copy of the model's config.json, or a default of transformers where its documentation
names that model; none was held against the Hub itself. `shapes.py` makes `shapes/` of them."""

COPIES = "ai-dynamo/aiconfigurator, aic-core/src/aiconfigurator_core/model_configs/{}_config.json at 095f58a5"
FIXTURES = "gkarfakis19/Rapid-LLM, test_qif_models.py at 37d2fa52: {} read off the published config.json"


class Published:
    """A published model: its figures, how many layers stand for all, and what its files have otherwise.

    `kind` names the facts (`facts/KIND.json`); `layers` are the first layers of the language model in which each kind
    of layer is there. `stacked`: the files stack the experts that transformers writes one by one, in the decoder or
    in the layers that predict further tokens too. `next_tokens`: vLLM's class for those layers, which tells how they
    are named. `builds`: figures under the names that transformers has for them.
    """

    def __init__(self, kind, source, layers, config, stacked=(), next_tokens=None, builds=None):
        self.kind, self.source, self.layers, self.config = kind, source, layers, config
        self.stacked, self.next_tokens, self.builds = stacked, next_tokens, builds or {}
