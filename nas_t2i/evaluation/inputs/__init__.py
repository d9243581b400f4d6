"""What is scored, and for which prompts: images, maps, folders, question files, COCO."""
