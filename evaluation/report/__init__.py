"""The page, plots and table that show a comparison."""
