"""What tests and third-party backends are held against; nothing here is needed to run casimg."""
