"""Extensions of the package: a search, a codec, a bound and a distortion. docs/extending explains them."""
