"""Teaching own actions: takes and packs, what is learned from them, what looks alike, fine-tuning, sharing."""
