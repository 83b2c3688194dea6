"""What is wrong between an objective's settings and the tokens and the encoder of its run."""

from vcpipe.config.pretrain import Pretrain

# Their values are all that tells one cell from another that has the same genes.
OF_VALUES = ("binned_expression", "continuous_projection")


def of_masked_genes(where: str, run: Pretrain) -> list[str]:
    section, strategy = run.masked_genes, run.tokenizer.strategy
    found = _pooling_without_cls(where, run) + _tokens_without_values(where, run)
    if section.position_embedding == "learned" and strategy != "rank_value":
        found.append(
            f"{where}.masked_genes.position_embedding is learned, but genes of {strategy} come by "
            "id: a hidden one would be told by its place among them; expected auto or none"
        )
    return found


def of_next_genes(where: str, run: Pretrain) -> list[str]:
    weight, strategy = run.next_genes.expression_loss_weight, run.tokenizer.strategy
    found = _tokens_without_values(where, run)
    if weight > 0 and strategy != "binned_expression":
        found.append(
            f"{where}.next_genes.expression_loss_weight is {weight}, but tokens of {strategy} have "
            "no bins; expected 0, or tokenizer.strategy binned_expression"
        )
    return found


def of_masked_autoencoder(where: str, run: Pretrain) -> list[str]:
    found, size = _pooling_without_cls(where, run), run.masked_autoencoder.decoder_size(run.model)
    width, heads = size["hidden_dim"], size["num_heads"]
    if width < 8 or width % heads:
        found.append(
            f"{where}.masked_autoencoder: the decoder has width {width}, {heads} heads; expected "
            "decoder_dim (null: half of model.hidden_dim) to be at least 8, and a multiple of "
            "decoder_heads (null: model.num_heads)"
        )
    return found


def _pooling_without_cls(where: str, run: Pretrain) -> list[str]:
    if getattr(run, run.objective).pooling == "mean" or run.tokenizer.prepend_cls:
        return []
    return [
        f"{where}.{run.objective}.pooling is cls, but tokenizer.prepend_cls is false; expected "
        "true, or pooling mean"
    ]


def _tokens_without_values(where: str, run: Pretrain) -> list[str]:
    if getattr(run, run.objective).use_expression_values:
        return []
    if run.tokenizer.strategy not in OF_VALUES:
        return []
    return [
        f"{where}.{run.objective}.use_expression_values is false, but without values tokens of "
        f"{run.tokenizer.strategy} are a mere list of genes by id; expected true, or "
        "tokenizer.strategy rank_value"
    ]


CONTRADICTIONS = {
    "masked_genes": of_masked_genes,
    "next_genes": of_next_genes,
    "masked_autoencoder": of_masked_autoencoder,
}
