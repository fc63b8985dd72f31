"""The pages and the REST interface of `boneage serve`, and the page of `boneage review`."""
