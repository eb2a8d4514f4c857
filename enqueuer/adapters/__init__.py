"""The enqueuer in each framework's own idiom. Import the module of your framework; nothing here imports another."""
