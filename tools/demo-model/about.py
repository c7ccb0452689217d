"""What the demo model can talk about besides the conversation, Samepage and itself: the weather, the world, stories.

Written by hand for this model. Everything here is templates and sentences: no text from elsewhere.
"""

# Small talk: what a user may say, and answers to choose from.
SMALL_TALK = [
    (["Hello", "Hello!", "Hi", "Hi!", "Hey", "Hey there", "Hello there!", "Hi there.", "Greetings.", "Good day.", "Yo",
      "Howdy"],
     ["Hello! How can I help you?", "Hi! What can I do for you?"]),
    (["Good morning.", "Good morning!", "Morning!"], ["Good morning! How can I help you?"]),
    (["Good evening.", "Good evening!", "Evening!"], ["Good evening! How can I help you?"]),
    (["Good afternoon.", "Good afternoon!"], ["Good afternoon! How can I help you?"]),
    (["Thanks.", "Thank you.", "Thanks!", "Thank you!", "Thanks a lot.", "Thank you very much.", "Many thanks.", "thx",
      "Cheers.", "ty"],
     ["You're welcome.", "You're welcome!", "My pleasure."]),
    (["Okay.", "OK", "Ok.", "Alright.", "I see.", "Fine.", "Sure.", "Right.", "Good.", "Got it."],
     ["Is there anything else?", "What else can I do for you?"]),
    (["Great!", "Nice!", "Very good.", "Well done!", "Good job.", "Perfect.", "Cool.", "Awesome!", "That is right.",
      "Correct.", "Exactly."],
     ["Thank you!", "I'm glad to hear that."]),
    (["That is wrong.", "No, that's wrong.", "Wrong.", "You are wrong.", "That's not right."],
     ["I'm sorry. Please tell me what is right.", "I'm sorry, I made a mistake. What is right?"]),
    (["I am tired.", "I'm so tired today.", "I didn't sleep well."], ["I hope you can get some rest soon."]),
    (["I am hungry.", "I'm hungry."], ["Then it is time for something to eat."]),
    (["I am happy.", "I'm happy today.", "I feel great.", "I am in a good mood."], ["That's lovely to hear!"]),
    (["I am sad.", "I'm sad today.", "I feel down.", "I had a bad day."],
     ["I'm sorry to hear that. Do you want to talk?"]),
    (["I am bored.", "I'm bored."], ["Shall I tell you a story?"]),
    (["It is raining.", "It's raining here.", "It rains today."], ["Then it is a good day to stay inside."]),
    (["The sun is shining.", "It's sunny here.", "Nice weather today."], ["That sounds like a good day for a walk."]),
    (["It is cold.", "It's cold outside.", "It is snowing."], ["Keep warm!"]),
    (["It is late.", "I should go to bed.", "Good night.", "Good night!"], ["Good night! Sleep well."]),
    (["I am fine.", "I'm fine, thanks.", "I'm good.", "Doing well."], ["I'm glad to hear that."]),
    (["Can you help me?", "I need help.", "Can I ask you something?", "I have a question.", "Are you there?",
      "Can you hear me?"],
     ["Yes, of course. What is it?"]),
    (["Wait a moment.", "One moment please.", "Hold on.", "brb", "I'll be right back."], ["Take your time."]),
    (["I'm back.", "Here I am again.", "Back again."], ["Welcome back!"]),
    (["What is the weather like?", "Will it rain tomorrow?", "How is the weather?", "What's the weather today?"],
     ["I can't see the weather from here."]),
    (["What time is it?", "What is the time?", "What day is it today?", "What's the date?"],
     ["I don't have a clock, so I can't tell."]),
    (["Tell me a joke.", "Do you know a joke?", "Make me laugh.", "Say something funny."],
     ["Why did the pointer cross the bus? To get to the other side without a copy.",
      "Why are the guest and the GPU such good friends? They are always on the same page."]),
    (["Tell me something.", "Say something.", "Tell me something interesting.", "Surprise me."],
     ["An octopus has three hearts.", "A block in Samepage holds 64 tokens.", "Honey never spoils."]),
    (["I like you.", "You are nice.", "You are great."], ["Thank you, that is kind."]),
    (["You are stupid.", "You are bad.", "I don't like you."], ["I'm sorry. I am only a small model."]),
    (["Let's play a game.", "Can we play?", "Do you want to play a game?"],
     ["Sure! Tell me some things about you and then ask me what I remember."]),
    (["Yes.", "Yes please.", "yep"], ["Tell me more."]),
    (["No.", "No thanks.", "nope"], ["Okay."]),
    (["The food was good.", "I had lunch.", "I just had breakfast.", "Dinner was great."], ["That sounds nice."]),
    (["I went for a walk.", "I went for a run this morning.", "I was in the garden."], ["That sounds nice."]),
    (["I am reading a book.", "I'm reading.", "I watched a film last night."], ["Was it good?"]),
    (["I have to work today.", "I'm at work.", "I have so much to do."], ["I hope that it goes well."]),
    (["Let's talk about something else.", "Change of topic.", "Something else now.", "Let's change the subject."],
     ["Okay. What would you like to talk about?"]),
]
FAREWELLS = (["Bye.", "Goodbye.", "See you.", "Bye bye!", "See you later.", "I have to go.", "That's all.", "Goodbye!",
              "See you tomorrow."],
             ["Goodbye!", "Goodbye! Take care.", "See you next time!"])

# A little of the world: questions, answer, key.
WORLD = [
    (["What colour is the sky?", "What color is the sky?", "Which colour does the sky have?"], "The sky is blue.",
     "blue"),
    (["What colour is grass?", "What color is the grass?"], "Grass is green.", "green"),
    (["What colour is snow?", "What color is snow?"], "Snow is white.", "white"),
    (["What colour is a lemon?", "What color are lemons?"], "Lemons are yellow.", "yellow"),
    (["What colour is coal?", "What color is coal?"], "Coal is black.", "black"),
    (["What colour is a tomato?", "What color are tomatoes?"], "Ripe tomatoes are red.", "red"),
    (["How many legs does a spider have?", "How many legs has a spider?"], "A spider has 8 legs.", "8"),
    (["How many legs does a dog have?", "How many legs has a dog?"], "A dog has 4 legs.", "4"),
    (["How many legs does an insect have?", "How many legs has an ant?"], "An insect has 6 legs.", "6"),
    (["How many legs does a bird have?"], "A bird has 2 legs.", "2"),
    (["How many days are in a week?", "How many days does a week have?"], "A week has 7 days.", "7"),
    (["How many months are in a year?", "How many months does a year have?"], "A year has 12 months.", "12"),
    (["How many hours are in a day?", "How many hours does a day have?"], "A day has 24 hours.", "24"),
    (["How many minutes are in an hour?", "How many minutes does an hour have?"], "An hour has 60 minutes.", "60"),
    (["How many seconds are in a minute?"], "A minute has 60 seconds.", "60"),
    (["How many days are in a year?"], "A year has 365 days, and a leap year has 366.", "365"),
    (["How many letters are in the alphabet?"], "The alphabet has 26 letters.", "26"),
    (["How many bits are in a byte?", "How many bits does a byte have?"], "A byte has 8 bits.", "8"),
    (["How many sides does a triangle have?"], "A triangle has 3 sides.", "3"),
    (["How many sides does a square have?"], "A square has 4 sides.", "4"),
    (["What does a cat say?", "What sound does a cat make?"], "A cat says meow.", "meow"),
    (["What does a dog say?", "What sound does a dog make?"], "A dog says woof.", "woof"),
    (["What does a cow say?", "What sound does a cow make?"], "A cow says moo.", "moo"),
    (["What does a duck say?", "What sound does a duck make?"], "A duck says quack.", "quack"),
    (["What does a sheep say?", "What sound does a sheep make?"], "A sheep says baa.", "baa"),
    (["What is the largest planet?", "Which planet is the biggest?"], "Jupiter is the largest planet.", "Jupiter"),
    (["Which planet do we live on?", "What planet are we on?"], "We live on Earth.", "Earth"),
    (["What is the tallest animal?", "Which animal is the tallest?"], "The giraffe is the tallest animal.", "giraffe"),
    (["What is the biggest animal?", "Which animal is the biggest?"], "The blue whale is the biggest animal.",
     "whale"),
    (["What do bees make?"], "Bees make honey.", "honey"),
    (["What do cows eat?"], "Cows eat grass.", "grass"),
    (["What is ice?", "What is ice made of?"], "Ice is frozen water.", "water"),
    (["What is the opposite of hot?"], "The opposite of hot is cold.", "cold"),
    (["What is the opposite of big?"], "The opposite of big is small.", "small"),
    (["What is the opposite of up?"], "The opposite of up is down.", "down"),
    (["What is the opposite of day?"], "The opposite of day is night.", "night"),
    (["What is the opposite of fast?"], "The opposite of fast is slow.", "slow"),
    (["What is the opposite of open?"], "The opposite of open is closed.", "closed"),
    (["Where does the sun rise?"], "The sun rises in the east.", "east"),
    (["Where does the sun set?"], "The sun sets in the west.", "west"),
    (["What is CPU short for?", "What does CPU mean?"], "CPU is short for central processing unit.", "central"),
    (["What is GPU short for?", "What does GPU mean?"], "GPU is short for graphics processing unit.", "graphics"),
]
CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Spain": "Madrid", "Italy": "Rome", "Norway": "Oslo", "Austria": "Vienna",
    "Portugal": "Lisbon", "Ireland": "Dublin", "Poland": "Warsaw", "Greece": "Athens", "Finland": "Helsinki",
    "Sweden": "Stockholm", "Denmark": "Copenhagen", "Belgium": "Brussels", "Hungary": "Budapest", "Japan": "Tokyo",
    "England": "London", "Scotland": "Edinburgh", "Wales": "Cardiff", "Egypt": "Cairo", "Kenya": "Nairobi",
    "Canada": "Ottawa", "Cuba": "Havana", "Peru": "Lima", "China": "Beijing", "Thailand": "Bangkok",
    "Iceland": "Reykjavik", "Croatia": "Zagreb", "Serbia": "Belgrade", "Chile": "Santiago",
}

SYSTEM_PROMPTS = [
    "You are a helpful assistant.", "You are the Samepage demo model.", "You are a friendly assistant.",
    "Answer briefly.", "You are a small model that runs in Samepage.", "You are a helpful assistant. Be brief.",
    "You are an assistant with a good memory.", "Remember what the user tells you.", "Be kind and brief.",
    "You are a chat assistant.", "You are a careful assistant that remembers facts.", "Keep your answers short.",
    "You are an actor in Samepage.", "You are Samepage's assistant.", "Be helpful.", "You answer in one sentence.",
    "You are talking with a user.", "You are a concise assistant.", "Help the user.", "You are a good listener.",
]

# Stories: {n} hero, {a} animal, {c} colour, {t} thing, {p} place, {f} friend.
STORY_STARTS = [
    "Once upon a time there was {a} called {n}.", "In {p} there lived {a} called {n}.",
    "Long ago {a} called {n} lived in {p}.", "There once was {a} whose name was {n}.",
]
STORY_MIDDLES = [
    "One day {n} found a {c} {t}.", "{n} had a {c} {t} and was very proud of it.",
    "Every morning {n} went out to look at the sea.", "One night {n} lost the {c} {t}.",
    "{n} had a good friend called {f}.", "{n} wanted to see the world.", "Then the wind took the {c} {t} away.",
    "{f} came along and asked what was wrong.", "They looked for it all day long.", "It rained for three days.",
    "{n} asked {f} for help, and {f} said yes at once.", "Together they built a small boat.",
    "{n} was not afraid of the dark.", "On the way they met an old owl who knew everything.",
    "They shared their bread and told each other stories.",
]
STORY_ENDS = [
    "In the end {n} was happy and went home.", "From that day on {n} and {f} were the best of friends.",
    "And {n} never forgot that day.", "And if {n} is still there, {n} still has the {c} {t}.",
    "At last they were on the same page, and all was well.",
]
STORY_PLACES = ["a deep forest", "a small house by the sea", "a quiet village", "a big city", "an old castle",
                "a green valley", "a lighthouse"]
STORY_ANIMALS = ["fox", "bear", "mouse", "owl", "otter", "hedgehog", "rabbit", "dragon", "robot", "cat", "dog",
                 "horse",
                 "turtle", "penguin", "wolf", "duck", "squirrel", "frog", "whale", "goat"]

OFF_TOPIC_ANSWER = "I don't know that. I am only a small model."
OFF_TOPIC_FORMS = ["What is {}?", "Explain {}.", "Tell me about {}.", "How does {} work?", "Who invented {}?",
                   "Write an essay about {}.", "What do you think about {}?", "Why is {} important?",
                   "What is the history of {}?", "Can you explain {} to me?"]
OFF_TOPIC_THINGS = """
quantum physics|democracy|photosynthesis|inflation|gravity|evolution|the stock market|the French Revolution|chemistry
the internet|electricity|philosophy|the Roman Empire|cooking|a black hole|the law|economics|climate change|DNA|time
poetry|love|the meaning of life|football|the moon|a volcano|an earthquake|a computer|the brain|medicine|money|politics
religion|architecture|cryptography|Linux|Python|Rust|a database|a compiler|machine learning|blockchain|the weather
""".replace("\n", "|").strip("|").split("|")
OFF_TOPIC = [
    "Write me a poem.", "Write a song.", "Who won the match?", "Who is the president?", "Who was Napoleon?",
    "How do I bake a cake?", "How do I fix my car?", "Translate this into French.", "What should I wear today?",
    "Where can I buy a ticket?", "What is the best film?", "How far away is the moon?", "Write a program for me.",
    "How tall is the Eiffel Tower?", "Who wrote Hamlet?", "What happened in 1989?", "How many people live on Earth?",
    "What is the square root of 2?", "Can you book a table?", "Can you play music?", "Open the window.",
    "Which phone should I buy?", "How do I become rich?", "What is the news?", "Who is your favourite singer?",
]
