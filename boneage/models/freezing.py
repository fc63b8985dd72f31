"""Freezing of backbone layers, and layer-wise learning-rate decay."""

import keras


def set_trainable(model: keras.Model, *, backbone: str, trainable: str | int) -> None:
    """Set the trainable layers: the head, and all, none or the last layers of the backbone.

    In a model from `fuse_batch_norm`, frozen layers work as in inference: batch normalisation keeps its statistics and
    dropout is inactive.

    Args:
        model: A network with a nested backbone, see `boneage.models.build_model`.
        backbone: Name of the backbone.
        trainable: `"all"`, `"head"`, or the number of the backbone's last layers, counted in layers with weights.
    """
    inside = model.get_layer(backbone)
    inside.trainable = trainable != "head"
    if isinstance(trainable, int):
        first = next(iter(_layers_with_weights(inside)[-trainable:]), None)
        for layer in inside.layers:
            if layer is first:
                break
            layer.trainable = False


def learning_rate_factors(model: keras.Model, *, backbone: str, layer_decay: float) -> list[float]:
    """Return the factor of the learning rate of each trainable variable: 1 in the head, less in the backbone.

    Args:
        model: A network with a nested backbone.
        backbone: Name of the backbone.
        layer_decay: Factor in (0, 1] from each of the backbone's layers with weights to the layer below; the last layer
            has this factor.
    """
    depths = {
        id(variable): depth
        for depth, layer in enumerate(reversed(_layers_with_weights(model.get_layer(backbone))), start=1)
        for variable in layer.weights
    }
    return [layer_decay ** depths.get(id(variable), 0) for variable in model.trainable_variables]


def _layers_with_weights(backbone: keras.Model) -> list[keras.layers.Layer]:
    return [layer for layer in backbone.layers if layer.weights]
