"""What a notebook needs beyond the package: drawings and small experiments that only make sense in a lesson."""
