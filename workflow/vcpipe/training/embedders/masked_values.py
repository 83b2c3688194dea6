"""scGPT's cell embedding: what becomes of <cls>."""

from vcpipe.config.eval import Embedding
from vcpipe.data.tokens.packing import specials
from vcpipe.errors import InputError
from vcpipe.models.scgpt import MaskedValueModel
from vcpipe.training.embedders.embedder import Embedder, PretrainedFolder
from vcpipe.training.embedders.whole_tokens import whole_tokens


def masked_values(pretrained: PretrainedFolder, config: Embedding) -> Embedder:
    if not pretrained.config.tokenizer.prepend_cls:
        raise InputError(
            f"{pretrained.path} was pretrained without <cls> (tokenizer.prepend_cls is false), "
            "whose output is the cell embedding; expected a run with it."
        )
    vocabulary = pretrained.folder.vocabulary
    special = specials(vocabulary.ids, pretrained.names.vocabularies.special_tokens)
    model = MaskedValueModel(pretrained.folder.model, len(vocabulary), special.pad_id)
    return Embedder(model, whole_tokens(pretrained, special, config))
