"""What ``scripts/train_ansm`` trains on."""
