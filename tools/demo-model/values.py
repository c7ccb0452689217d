"""The words that fill the templates of generate.py, and the syllables that made-up words are built from.

Pools are large so that a model that only remembers them gets nowhere: what is asked for later has to be copied from
the conversation.
"""

NAMES = """
Ada Adam Adele Adrian Agnes Ahmed Aiko Aisha Akira Alan Albert Alex Alice Alina Amara Amelia Amir Amy Ana Anders Andre
Andrea Angela Anika Anna Anton Anwar April Aria Arjun Arthur Astrid Aya Barbara Basil Beatrice Becky Bella Ben Bianca
Bill Bjorn Bob Boris Brenda Brian Bruno Callum Camila Carla Carlos Carmen Caroline Casper Cathy Cecil Celia Charlie
Chen Chiara Chloe Chris Clara Claude Colin Conor Cora Dalia Dan Daniel Daphne Dara David Dawn Deepa Denis Derek Diana
Diego Dina Dominic Dora Doris Dylan Edgar Edith Edward Eileen Elena Eli Elias Elif Elise Ella Ellen Elsa Emil Emily
Emma Enzo Eric Erin Esther Ethan Eva Evan Ezra Faith Farah Fatima Felix Fergus Fiona Flora Frances Frank Freda Freya
Gabriel Gail Gary Gemma George Georgia Gerda Gina Giulia Gloria Grace Greta Gus Hana Hannah Harold Harry Hasan Hazel
Heidi Helen Henry Hilda Holly Hugo Ian Ibrahim Ida Igor Ines Ingrid Iris Irma Isaac Isabel Ivan Ivy Jack Jacob Jade
Jakub James Jan Jane Jasmine Jasper Javier Jean Jenny Jill Jim Joan Joel Johan John Jonas Jorge Jose Joy Juan Judy
Julia Julian June Kai Kamal Karen Karim Karl Kate Katya Keiko Keith Kenji Kevin Kim Kira Klaus Kofi Kurt Kyle Lara
Lars Laura Layla Leah Lee Leila Lena Leo Leon Li Liam Lila Lily Lina Linda Linus Lisa Lola Lotte Louis Lucas Lucy Luis
Luna Lydia Mabel Maeve Magda Maja Malik Mara Marco Margot Maria Marie Mario Mark Marta Martin Mary Matteo Maud Max Maya
Mei Mia Mika Mike Milan Milo Mina Mira Moira Molly Mona Morgan Muriel Nadia Naomi Nasir Nate Neil Nell Nico Nina Noah
Noor Nora Norman Odette Olaf Olga Oliver Olivia Omar Oscar Otto Owen Pablo Paloma Pam Paul Pedro Penny Peter Petra Phil
Pia Pierre Piper Polly Priya Quentin Quinn Rafael Raj Rani Raphael Raul Ravi Rebecca Remy Rhea Rita Robert Robin Roger
Rohan Rosa Rose Ross Ruby Rudy Rupert Ruth Ryan Sadie Saeed Sally Sam Samir Sandra Sanjay Sara Sasha Scott Sean Selma
Sergei Seth Shona Silas Silvia Simon Sina Sofia Sonia Stan Stella Steve Sven Sylvia Tamar Tanya Tara Tariq Ted Tess
Theo Tilda Tim Tina Toby Tom Tony Tracy Uma Ursula Valerie Vera Victor Viktor Vincent Viola Vivian Wanda Wendy Will
Willa Wim Xavier Yann Yara Yasmin Yuki Yusuf Yvonne Zach Zara Zelda Zoe
""".split()

PET_NAMES = """
Bandit Barney Bean Biscuit Blossom Bolt Bonnie Bramble Brownie Bruno Bubbles Buddy Buster Button Caramel Charlie Chip
Cinder Clover Coco Comet Cookie Copper Crumble Daisy Dash Dexter Dot Duke Echo Ember Fern Fidget Flash Fluffy Freckles
Fudge Ginger Goose Gizmo Hazel Honey Hunter Jasper Jelly Lady Loki Lucky Lulu Maple Max Merlin Misty Mocha Monty Moose
Muffin Nacho Nala Nibbles Noodle Nugget Nutmeg Olive Oreo Pancake Patch Peaches Peanut Pebble Pepper Pickle Pippin
Pixel Poppy Pudding Pumpkin Ranger Rascal Rex Rocket Rocky Rosie Rufus Rusty Sadie Scout Shadow Skipper Smokey Snowy
Socks Sparky Spot Star Storm Sugar Sunny Tiger Toffee Truffle Tucker Turbo Waffles Whiskers Willow Winnie Ziggy Zorro
""".split()

BOAT_NAMES = """
Sea Star|Blue Heron|Morning Light|Swift|Albatross|Second Wind|Marigold|Northern Lights|Silver Fox|Wanderer|Calypso
Odyssey|Kingfisher|Storm Petrel|Lady Jane|Windsong|Driftwood|Moonbeam|Sandpiper|Firefly|Seagull|Tempest|Dolphin|Osprey
""".replace("\n", "|").strip("|").split("|")

COLOURS = """
red blue green yellow orange purple pink brown black white grey silver gold turquoise violet crimson beige cream navy
teal olive maroon lilac scarlet amber copper ivory indigo magenta mint lavender coral bronze cyan emerald peach plum
rose ruby tan mustard lime
""".split()
# Said oftener than the rest, as people do.
COMMON_COLOURS = "red blue green yellow orange purple pink brown black white".split()

# What people own one of and can say the colour of.
THINGS = """
boat car bike house door kite hat coat scarf cup mug bag backpack lamp chair sofa tent canoe kayak skateboard guitar
phone notebook umbrella pencil pen blanket pillow van truck tractor scooter helmet jacket sweater shirt dress tie wallet
watch suitcase bottle vase balloon ball wagon teapot rug fence shed caravan sled bucket bowl plate towel basket drum
violin piano desk table bench clock mirror kettle toaster fridge bookcase cupboard roof gate mailbox garage ladder
hammock raft sailboat motorbike bus toothbrush lunchbox ring necklace bracelet belt cap cardigan tablet laptop keyboard
camera radio flag
""".split()
PLURAL_THINGS = "shoes boots gloves socks curtains glasses trousers skis sandals slippers mittens headphones".split()

ANIMALS = """
dog cat rabbit parrot hamster horse pony goat hen duck turtle goldfish lizard snake ferret mouse pig sheep donkey owl
gecko canary budgie llama cow goose rat frog tortoise lamb kitten puppy
""".split()
COUNTED = """
cats dogs horses goats hens ducks cousins brothers sisters bikes books plants guitars hats boats cars cameras rabbits
chairs lamps kites pencils stamps coins apple trees bottles keys shirts tickets puzzles cups
""".replace("apple trees", "").split() + ["apple trees"]

CITIES = """
London Paris Berlin Madrid Rome Oslo Vienna Lisbon Dublin Prague Warsaw Athens Helsinki Stockholm Copenhagen Brussels
Amsterdam Budapest Zurich Geneva Milan Naples Venice Barcelona Seville Porto Lyon Nice Hamburg Munich Cologne Leeds
York Bristol Cardiff Glasgow Edinburgh Belfast Cork Galway Bergen Malmo Turku Riga Vilnius Tallinn Kyiv Krakow Sofia
Zagreb Belgrade Istanbul Ankara Cairo Tunis Rabat Lagos Accra Nairobi Kampala Harare Dakar Delhi Mumbai Chennai Lahore
Dhaka Bangkok Hanoi Manila Jakarta Singapore Tokyo Kyoto Osaka Seoul Busan Beijing Shanghai Taipei Sydney Melbourne
Perth Brisbane Auckland Wellington Toronto Montreal Ottawa Vancouver Boston Chicago Denver Seattle Portland Austin
Dallas Houston Miami Atlanta Lima Quito Bogota Santiago Havana Caracas Brasilia Recife Salvador Valencia Utrecht Ghent
Basel Graz Trieste Palermo Malaga Split Reykjavik Tromso Aarhus Uppsala Gdansk Brno
""".split()

# Where a thing was put or a person is: the preposition belongs to the place.
SPOTS = """
in the kitchen|in the garden|in the garage|in the attic|in the cellar|in the bathroom|in the bedroom|in the hall
in the office|in the library|in the car|in the shed|in the drawer|in the blue box|in the fridge|in the park
in the basket|in the suitcase|in the red bag|in the cupboard|in the top drawer|on the table|on the roof|on the balcony
on the desk|on the bottom shelf|on the windowsill|on the sofa|on the stairs|on the porch|on the train|on the boat
under the bed|under the stairs|under the oak tree|under the rug|under the sofa|behind the door|behind the curtain
behind the shed|next to the clock|next to the door|next to the lamp|at the school|at the station|at the market
at the beach|at the office|at the bakery|at the museum|by the river|by the window|near the lighthouse|near the bridge
""".replace("\n", "|").strip("|").split("|")
LEFT_THINGS = """
wallet umbrella passport notebook phone camera map hat book ticket flashlight toolbox lunchbox laptop charger necklace
treasure letter racket hammer jacket ladder
""".split()
LEFT_PLURAL = "keys glasses gloves boots slippers documents scissors headphones".split()

JOBS = """
teacher nurse doctor pilot baker farmer painter singer writer lawyer plumber carpenter gardener chef driver dentist
engineer programmer musician librarian photographer sailor mechanic architect tailor florist journalist actor dancer
judge scientist astronomer vet electrician potter translator postman firefighter biologist waiter butcher cleaner
designer editor fisherman
""".split()

RELATIONS = """
friend sister brother neighbour colleague boss aunt uncle cousin teacher mother father grandmother grandfather roommate
dentist daughter son wife husband nephew niece coach landlord
""".split()

FAVOURITES = {
    "colour": COLOURS,
    "food": """pizza|pasta|soup|curry|sushi|tacos|rice|salad|stew|noodles|pancakes|dumplings|lasagne|risotto|ramen
        falafel|paella|burgers|fish and chips|porridge|omelette|toast|goulash|ravioli""",
    "fruit": """apples|pears|mango|bananas|cherries|plums|grapes|kiwi|papaya|figs|melon|peaches|strawberries|raspberries
        oranges|lemons|blueberries|pineapple|apricots|dates""",
    "drink": "tea|coffee|water|milk|cocoa|lemonade|orange juice|apple juice|cider|ginger beer|mint tea|iced tea",
    "animal": """dogs|cats|horses|owls|foxes|otters|elephants|dolphins|penguins|bears|wolves|tigers|pandas|whales|rabbits
        hedgehogs|squirrels|giraffes|turtles|octopuses|seals|swans|bats""",
    "season": "spring|summer|autumn|winter",
    "month": "January|February|March|April|May|June|July|August|September|October|November|December",
    "day": "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday",
    "sport": """football|tennis|rugby|cricket|swimming|rowing|sailing|cycling|running|skiing|boxing|hockey|golf
        basketball|volleyball|climbing|surfing|judo|fencing|badminton""",
    "music": "jazz|rock|folk|opera|blues|techno|classical music|pop|punk|reggae|soul|metal",
    "instrument": """the piano|the violin|the guitar|the flute|the drums|the cello|the harp|the trumpet|the oboe
        the banjo|the accordion|the saxophone|the clarinet|the ukulele""",
    "flower": "roses|tulips|daisies|lilies|violets|poppies|sunflowers|orchids|daffodils|irises|peonies|bluebells",
    "tree": "oak|birch|willow|maple|pine|cedar|beech|ash|elm|larch|chestnut|fir",
    "game": "chess|checkers|go|poker|bridge|dominoes|darts|hide and seek|backgammon|cards|bingo|solitaire",
    "dessert": "ice cream|apple pie|cheesecake|tiramisu|brownies|trifle|custard|sorbet|chocolate cake|crumble|fudge",
    "city": CITIES,
    "planet": "Mercury|Venus|Mars|Jupiter|Saturn|Uranus|Neptune",
    "subject": "maths|history|physics|biology|art|music|geography|chemistry|French|German|Latin|philosophy",
}
FAVOURITES = {kind: values if isinstance(values, list) else [v.strip() for v in values.replace("\n", "|").split("|")]
              for kind, values in FAVOURITES.items()}

DAYS = FAVOURITES["day"]
MONTHS = FAVOURITES["month"]
EVENTS = """
meeting flight exam party wedding concert interview appointment holiday train class lesson rehearsal picnic match race
lunch dinner visit deadline trip show game haircut delivery
""".split()

LISTS = {  # kind of list: what is on it
    "shopping list": """eggs milk bread butter cheese apples rice pasta tea coffee sugar flour salt honey jam onions
        carrots potatoes tomatoes lemons garlic olives yoghurt soap candles mushrooms spinach beans nuts oats pepper
        vinegar oil grapes bananas""".split(),
    "packing list": """socks shirts towel toothbrush passport camera book charger hat sunglasses map umbrella sandals
        jumper tickets blanket torch tent compass rope soap gloves scarf notebook pencil medicine""".split(),
    "to-do list": """laundry|dishes|homework|shopping|vacuuming|gardening|painting the fence|calling the bank
        washing the car|feeding the cat|paying the rent|baking a cake|fixing the bike|cleaning the oven|writing a letter
        watering the plants|booking the hotel|walking the dog|mowing the lawn|ironing""".replace("\n", "|").split("|"),
    "guest list": NAMES,
}
LISTS["reading list"] = ["Emma", "Ulysses", "Hamlet", "Walden", "Ivanhoe", "The Odyssey", "Faust", "Candide", "Moby Dick",
                         "Persuasion", "Kim", "The Tempest", "Robinson Crusoe", "Frankenstein"]
LISTS["wish list"] = THINGS[:60]
LISTS = {kind: [v.strip() for v in values] for kind, values in LISTS.items()}

# "my X is V" with a number, and "the X is V" with a number or a word.
MY_NUMBERS = """
locker number|room number|lucky number|seat number|table number|bus number|flight number|platform number|gate number
house number|shoe size|ticket number|order number|pin|customer number|jersey number|parking space|apartment number
""".replace("\n", "|").strip("|").split("|")
THE_NUMBERS = """
door code|secret number|magic number|gate code|safe code|alarm code|winning number|access code|code for the safe
code for the door|number of the house|code for the garage
""".replace("\n", "|").strip("|").split("|")
THE_WORDS = """
secret word|password|code word|magic word|wifi password|safe word|keyword|name of the ship|name of the street
name of the planet|name of the game|name of the robot|name of the village|name of the project
""".replace("\n", "|").strip("|").split("|")

WORDS = """
apple anchor arrow autumn banjo barrel basket beacon bridge butter button cabin candle canyon carpet castle cedar cherry
circle cloud clover comet copper coral cotton crystal desert dragon eagle ember engine falcon feather fiddle forest fossil
garden ginger glacier hammer harbour hazel honey island jacket jungle kettle ladder lantern lemon lizard magnet maple
marble meadow melon mirror monkey mountain nutmeg ocean olive orchid otter oyster paper parrot pebble pepper pillow planet
pocket prairie puzzle quartz rabbit rainbow raven ribbon river rocket saddle sapphire shadow silver spider spiral stream
summer sunset teapot temple thunder tiger timber tunnel turtle umbrella valley velvet violin walnut whisper willow window
winter wizard yellow zebra
""".split()

SHORT_WORDS = """
cat dog sun sea map boat fish bird tree book lamp door hand ship star moon rain snow wind fire milk bread apple house
green river table chair stone plant horse mouse tiger lemon sugar music paper water light night happy smile cloud beach
train clock queen grape piano robot tape link block page guest actor region token model session device memory
""".split()

ONSETS = "b br c ch d dr f fl g gr h j k kl kr l m n p pl pr qu r s sh sk st t th tr v w y z".split() + [""]
VOWELS = "a e i o u a e i o u ai ea ee ia io oo ou".split()
CODAS = ["", "", "", "n", "l", "r", "s", "m", "t", "k", "x", "nd", "rn", "sk", "th", "lm", "v", "b", "g"]

# "my X is V" with a word.
MY_WORDS = """
hobby|star sign|middle name|nickname|surname|favourite book|favourite film|favourite author|favourite band|favourite song
favourite word|favourite team|home town|company|school|street|username|blood type|first language|bicycle brand|car brand
team|band|club|project|motto|screen name|call sign|room name|computer name|native language|dream job|lucky charm
""".replace("\n", "|").strip("|").split("|")
PLACES_BEFORE = ["in the", "on the", "under the", "behind the", "next to the", "near the", "beside the", "inside the",
                 "above the", "at the", "between the books and the", "below the", "outside the"]
TIMES_BEFORE = ["after the", "before the", "during the", "at the", "on the day of the"]
