"""Small models that tell labels apart by sentence vectors and by who spoke; none looks ahead."""
