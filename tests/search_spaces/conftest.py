from hypothesis import settings

# No test may depend on how busy the machine is.
settings.register_profile("hwnas", deadline=None, max_examples=40)
settings.load_profile("hwnas")
