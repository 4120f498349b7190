"""The sections of a config, a module for each that has much to say."""
