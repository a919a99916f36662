"""What the tests share: cfgs, files, models and other ways to compute what is compared."""
