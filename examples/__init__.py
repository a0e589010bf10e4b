"""APIs to try the product on, with what is wrong with them written down."""
