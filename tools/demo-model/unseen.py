"""Words for the evaluation only: no list that training draws from has them, and words.py never makes them.

For each place of a fact: (kind of fact, object or None, value). Where the object is the unseen word, the value is an
ordinary one.
"""

FACTS = [
    ("job", None, "barista"), ("job", None, "beekeeper"), ("job", None, "welder"), ("job", None, "surgeon"),
    ("job", None, "plasterer"), ("job", None, "chimney sweep"), ("job", None, "zookeeper"), ("job", None, "economist"),
    ("favourite", "food", "moussaka"), ("favourite", "food", "gnocchi"), ("favourite", "food", "shepherd's pie"),
    ("favourite", "fruit", "lychees"), ("favourite", "drink", "kombucha"), ("favourite", "drink", "hot chocolate"),
    ("favourite", "animal", "axolotls"), ("favourite", "animal", "badgers"), ("favourite", "sport", "lacrosse"),
    ("favourite", "sport", "water polo"), ("favourite", "instrument", "the bagpipes"), ("favourite", "music", "bluegrass"),
    ("favourite", "flower", "hydrangeas"), ("favourite", "tree", "sycamore"), ("favourite", "game", "mahjong"),
    ("favourite", "dessert", "baklava"), ("favourite", "subject", "astrophysics"), ("favourite", "film", "Casablanca"),
    ("favourite", "cheese", "gouda"), ("favourite", "spice", "turmeric"),
    ("colour", "boat", "fuchsia"), ("colour", "house", "taupe"), ("colour", "car", "burgundy"), ("colour", "kite", "khaki"),
    ("colour", "trombone", "green"), ("colour", "wheelbarrow", "red"), ("colour", "surfboard", "yellow"),
    ("colour", "wardrobe", "brown"),
    ("pet", "dog", "Gandalf"), ("pet", "cat", "Schnitzel"), ("pet", "iguana", "Fred"), ("pet", "hedgehog", "Spike"),
    ("boat", None, "Black Pearl"), ("boat", None, "Endeavour"), ("name", None, "Siobhan"), ("name", None, "Wolfgang"),
    ("relation", "sister", "Guinevere"), ("relation", "boss", "Mortimer"),
    ("home", None, "Ljubljana"), ("home", None, "Albuquerque"), ("origin", None, "Ouagadougou"), ("origin", None, "Tbilisi"),
    ("spot", "wallet", "in the microwave"), ("spot", "passport", "behind the radiator"), ("spot", "corkscrew", "in the hall"),
    ("spot", "screwdriver", "on the desk"), ("spot", "hat", "under the trampoline"), ("spot", "map", "in the glovebox"),
    ("event", "graduation", "on Friday"), ("event", "barbecue", "on Sunday"), ("event", "audition", "at 4 o'clock"),
    ("event", "checkup", "in May"), ("count", "spoons", "12"), ("count", "volleyballs", "31"), ("count", "mugs", "7"),
    ("count", "vinyl records", "58"), ("like", None, "crossword puzzles"), ("like", None, "thunderstorms"),
    ("dislike", None, "brussels sprouts"), ("dislike", None, "mosquitoes"),
    ("my_number", "library card number", "4417"), ("my_number", "jacket size", "52"), ("the_number", "vault code", "9036"),
    ("the_word", "name of the dragon", "Smaug"), ("the_word", "secret ingredient", "cardamom"),
    ("my_word", "hobby", "calligraphy"), ("my_word", "favourite author", "Dostoevsky"), ("my_word", "star sign", "Sagittarius"),
]
LISTS = [
    ("shopping list", ["aubergines", "washing powder", "cinnamon"]), ("shopping list", ["toothpaste", "avocados"]),
    ("packing list", ["snorkel", "binoculars", "hairdryer"]), ("packing list", ["swimsuit", "earplugs", "milk"]),
    ("guest list", ["Ophelia", "Bartholomew", "Xochitl"]), ("to-do list", ["defrosting the freezer", "sharpening the knives"]),
    ("reading list", ["Dracula", "Middlemarch"]), ("wish list", ["telescope", "rollerblades", "drone"]),
]
# The words that must not come from elsewhere: the unseen half of each pair.
ORDINARY = set("""green red yellow brown Fred Spike house boat car kite wallet passport hat map milk dog cat in the on desk hall
    under behind at may friday sunday o'clock water black pearl hot chocolate pie chimney sweep name of dragon secret card
    number jacket size library vault code favourite star sign sister boss spoons mugs records to-do list
    powder and vinyl washing knives author""".lower().split())
WORDS = {word for _, thing, value in FACTS for word in f"{thing or ''} {value}".lower().split()} | \
    {word for _, items in LISTS for item in items for word in item.lower().split()}
WORDS = {word for word in WORDS if word not in ORDINARY and not word.isdigit() and len(word) > 2}

# Questions about Samepage and the model as somebody may put them who has not seen topics.py: (topic, question).
QUESTIONS = [
    ("samepage", "I just found this project, what does it do?"), ("samepage", "Could you sum up Samepage for a beginner?"),
    ("samepage", "Samepage in a nutshell, please"), ("name", "Funny name. What is the story behind it?"),
    ("audience", "Would Samepage be useful for somebody like me?"), ("region", "How is a region different from a buffer?"),
    ("region", "Can the address of a region change?"), ("devices", "Will it run on the graphics card in my laptop?"),
    ("cuda", "My server has an H100. Can Samepage use it?"), ("vulkan", "What do you need Vulkan for?"),
    ("links", "Tell me which link types exist"), ("link", "Remind me what a link was"),
    ("shared", "Is there a copy when the link is shared?"), ("mirrored", "What is the idea behind mirrored links?"),
    ("tape", "Please explain to me what you mean by tape"), ("block", "How many tokens does one KV block have?"),
    ("session", "What should I imagine a session to be?"), ("guest", "Who or what do you call a guest?"),
    ("actor", "What would you call an actor here?"), ("durable", "My computer lost power. Are my actors gone?"),
    ("actor-fork", "I want to make a second actor from this one, how?"), ("actor-move", "Can my actor go on on a different computer?"),
    ("mailbox", "Where do I put a message for an actor?"), ("snapshot", "What do I find inside a snapshot?"),
    ("when", "At what times are snapshots written?"), ("kv", "In which place does Samepage hold the KV cache?"),
    ("truth", "Do I lose anything if a KV block goes bad?"), ("fork", "Is it possible to branch off a conversation?"),
    ("prefix", "Do two chats with the same system prompt compute it twice?"), ("move", "Could I continue this chat on my other machine?"),
    ("wasm", "For what reason did you choose WebAssembly?"), ("copy", "Do the tensors get copied on their way to the GPU?"),
    ("doctor", "How do I find out which link my GPU has?"), ("chat", "How do I get a chat going?"),
    ("format", "Which kinds of model files are supported?"), ("language", "Did you write it in C or in Rust?"),
    ("failure", "Suppose a guest crashes, what then?"), ("nojob", "Is it possible to train something with this?"),
    ("purpose", "What were you built to do?"), ("licence", "Can I use you in my product?"),
]
