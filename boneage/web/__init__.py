"""The page and the REST interface of `boneage serve`."""
