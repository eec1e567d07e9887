"""What may be wrong with a data set: facts about every image, duplicates, the report in words."""
