"""scGPT's cell embedding: what becomes of <cls>."""

from vcpipe.config.eval import Embedding
from vcpipe.data.tokens.packing import specials
from vcpipe.errors import InputError
from vcpipe.training.embedders.embedder import Embedder, PretrainedFolder
from vcpipe.training.embedders.whole_tokens import whole_tokens
from vcpipe.training.learners.masked_values import label_classes, model_of


def masked_values(pretrained: PretrainedFolder, config: Embedding) -> Embedder:
    if not pretrained.config.tokenizer.prepend_cls:
        raise InputError(
            f"{pretrained.path} was pretrained without <cls> (tokenizer.prepend_cls is false), "
            "whose output is the cell embedding; expected a run with it."
        )
    vocabulary, names = pretrained.folder.vocabulary, pretrained.names.vocabularies
    special = specials(vocabulary.ids, names.special_tokens)
    classes = label_classes(names, pretrained.config)
    model = model_of(vocabulary, special, pretrained.config, classes)
    return Embedder(model, whole_tokens(pretrained, special, config))
