"""The kinds of facts that a user tells, and the ways to say, ask and change one of each."""
# tell, ask, yes_no, fix, reverse: the user's words; say: the model's; what: the thing asked for, in the user's words
# (indirect, | between the ways to say it); what_you: the same in the model's. @ begins what
# is said about the user only.
# Slots: {v} value, {o} object, and those of Owner and Fact.words.

def K(tell, ask, say, what, what_you, yes_no=(), fix=(), reverse=()):
    return dict(tell=tell, ask=ask, say=say, what=what, what_you=what_you, yes_no=yes_no, fix=fix, reverse=reverse)


KINDS = {
    "name": K(
        ["my name is {v}", "I'm {v}", "I am {v}", "call me {v}", "people call me {v}", "you can call me {v}",
         "{v} is my name", "this is {v}", "the name is {v}", "my name's {v}", "my friends call me {v}", "I go by {v}",
         "I am called {v}", "it's {v} here"],
        ["What is my name?", "What's my name?", "Who am I?", "What am I called?", "Say my name.", "What was my name?",
         "What name did I give you?", "How am I called?", "My name is what?", "What did I say my name was?"],
        "your name is {v}", "my name", "your name",
        ["Is my name {v}?", "Am I {v}?", "Am I called {v}?"],
        ["I changed my name to {v}", "my real name is {v}", "please call me {v} from now on"]),
    "colour": K(
        ["{my} {o} {is} {v}", "{I} {have} {a_v} {o}", "{my} {o} {is} {v} in colour", "the colour of {my} {o} is {v}",
         "{I} own{s} {a_v} {o}", "{I} bought {a_v} {o}", "{I} got {a_v} {o}", "{my} {o} {is} painted {v}",
         "{my} {o} {is} {v}, by the way", "{I} painted {my2} {o} {v}", "{my} new {o} {is} {v}"],
        ["What colour {is} {my} {o}?", "What is the colour of {my} {o}?", "What's the colour of {my} {o}?",
         "Which colour {is} {my} {o}?", "What colour {was} {my} {o}?", "{my} {o} {is} what colour?",
         "What colour did I say {my} {o} {was}?", "Which colour {do} {my} {o} have?", "What colour {is} {my} {o} now?",
         "Colour of {my} {o}?", "In which colour {is} {my} {o} painted?"],
        "{your} {o} {is} {v}", "the colour of {my} {o}|what colour {my} {o} {is}", "what colour {your} {o} {is}",
        ["{is} {my} {o} {v}?", "{do2} {I} have {a_v} {o}?"],
        ["{I} painted {my2} {o} {v}", "{my} {o} {is} {v} now", "{my} {o} turned {v}", "{I} made {my2} {o} {v}"],
        [("Who has {a_v} {o}?", "{you} {have} {a_v} {o}"), ("Whose {o} {is} {v}?", "{your} {o} {is} {v}")]),
    "pet": K(
        ["{my} {o} is called {v}", "{I} {have} {a_o} {o} called {v}", "{I} {have} {a_o} {o} named {v}",
         "{my} {o}'s name is {v}", "the name of {my} {o} is {v}", "{my} {o} is named {v}",
         "{I} {have} {a_o} {o} and its name is {v}", "{I} got {a_o} {o} and called it {v}"],
        ["What is {my} {o} called?", "What is the name of {my} {o}?", "What's the name of {my} {o}?",
         "What is {my} {o}'s name?", "How is {my} {o} called?", "{my} {o} is called what?",
         "What did I say {my} {o} was called?", "What was {my} {o}'s name?"],
        "{your} {o} is called {v}", "the name of {my} {o}|what {my} {o} is called", "what {your} {o} is called",
        ["Is {my} {o} called {v}?", "Is {v} {my} {o}?", "Is {v} the name of {my} {o}?"],
        ["{my} {o} is called {v} now", "we call {my} {o} {v} now", "{my} {o} got a new name, {v}"],
        [("Who is {v}?", "{v} is {your} {o}"), ("What kind of animal is {v}?", "{v} is {a_o} {o}"),
         ("Who or what is {v}?", "{v} is {your} {o}")]),
    "boat": K(
        ["{my} boat is called {v}", "{my} boat's name is {v}", "the name of {my} boat is {v}",
         "{I} {have} a boat called {v}", "{I} named {my2} boat {v}"],
        ["What is {my} boat called?", "What is the name of {my} boat?", "What's {my} boat's name?",
         "What did I say {my} boat is called?", "How is {my} boat called?"],
        "{your} boat is called {v}", "the name of {my} boat|what {my} boat is called", "what {your} boat is called",
        ["Is {my} boat called {v}?"], ["{my} boat is called {v} now"]),
    "relation": K(
        ["my {o} is called {v}", "my {o}'s name is {v}", "I have {a_o} {o} called {v}", "my {o} is named {v}",
         "{v} is my {o}", "the name of my {o} is {v}"],
        ["What is my {o} called?", "What is my {o}'s name?", "What is the name of my {o}?", "Who is my {o}?",
         "What's my {o}'s name?", "What was the name of my {o}?"],
        "your {o} is called {v}", "my {o}'s name|what my {o} is called", "what your {o} is called",
        ["Is my {o} called {v}?", "Is {v} my {o}?"], ["my new {o} is called {v}", "my {o} is called {v} now"],
        [("Who is {v}?", "{v} is your {o}"), ("How do I know {v}?", "{v} is your {o}")]),
    "home": K(
        ["{I} live{s} in {v}", "{my} home is in {v}", "{my} house is in {v}", "{I} {am} living in {v}",
         "{I} {have} a flat in {v}", "{my} home town is {v}", "the city where {I} live{s} is {v}"],
        ["Where {do} {I} live?", "Which city {do} {I} live in?", "In which city {do} {I} live?",
         "What city {do} {I} live in?",
         "Where is {my} home?", "Where did I say {I} live{s}?", "What is {my} city?"],
        "{you} live{s} in {v}", "where {I} live{s}", "where {you} live{s}",
        ["{do2} {I} live in {v}?", "Is {my} home in {v}?"],
        ["{I} moved to {v}", "{I} live{s} in {v} now", "{I} {have} moved to {v}"],
        [("Who lives in {v}?", "{you} live{s} in {v}")]),
    "origin": K(
        ["{I} come{s} from {v}", "{I} {am} from {v}", "{I} grew up in {v}", "{I} {was_p} born in {v}"],
        ["Where {am} {I} from?", "Where {do} {I} come from?", "What city {am} {I} from?",
         "Where did I say {I} {am} from?"],
        "{you} {are} from {v}", "where {I} {am} from", "where {you} {are} from",
        ["{am2} {I} from {v}?", "{do2} {I} come from {v}?"], ["{I} really come{s} from {v}"],
        [("Who is from {v}?", "{you} {are} from {v}"), ("Who comes from {v}?", "{you} {are} from {v}")]),
    "age": K(
        ["{I} {am} {v} years old", "{I} {am} {v}", "{my} age is {v}", "{I} turned {v} last week",
         "{I} just turned {v}"],
        ["How old {am} {I}?", "What is {my} age?", "What's {my} age?", "What age {am} {I}?",
         "How old did I say {I} {am}?"],
        "{you} {are} {v} years old", "{my} age|how old {I} {am}", "how old {you} {are}",
        ["{am2} {I} {v} years old?", "{am2} {I} {v}?"], ["{I} {am} {v} now", "{I} {am} {v} today"],
        [("Who is {v} years old?", "{you} {are} {v} years old")]),
    "favourite": K(
        ["{my} favourite {o} is {v}", "{I} like{s} {v} best", "{my} favourite {o}: {v}",
         "the {o} that {I} like{s} best is {v}",
         "{v} is {my} favourite {o}", "@for me the best {o} is {v}", "my fave {o} is {v}"],
        ["What is {my} favourite {o}?", "What's {my} favourite {o}?", "Which {o} {do} {I} like best?",
         "Which is {my} favourite {o}?", "What {o} {do} {I} like best?", "{my} favourite {o} is what?",
         "What {o} {do} {I} like most?", "What did I say {my} favourite {o} is?", "{my} favourite {o}?"],
        "{your} favourite {o} is {v}", "{my} favourite {o}|which {o} {I} like{s} best", "{your} favourite {o}",
        ["Is {my} favourite {o} {v}?", "Is {v} {my} favourite {o}?"],
        ["{my} favourite {o} is {v} now", "now {I} like{s} {v} best"]),
    "job": K(
        ["{I} work{s} as {a_v}", "{my} job is {v_job}", "{I} {am} {a_v}", "{I} {am} {a_v} by profession",
         "{I} earn{s} {my2} living as {a_v}"],
        ["What {do} {I} do for a living?", "What is {my} job?", "What's {my} job?", "What {do} {I} work as?",
         "What kind of work {do} {I} do?", "What did I say {my} job is?"],
        "{you} work{s} as {a_v}", "{my} job|what {I} do{es} for a living", "what {your} job is",
        ["{am2} {I} {a_v}?", "{do2} {I} work as {a_v}?"], ["{I} work{s} as {a_v} now", "{I} became {a_v}"],
        [("Who is {a_v}?", "{you} work{s} as {a_v}"), ("Who works as {a_v}?", "{you} work{s} as {a_v}")]),
    "my_number": K(
        ["{my} {o} is {v}", "{I} {have} the {o} {v}", "{v} is {my} {o}", "{my} {o}: {v}", "note that {my} {o} is {v}",
         "remember that {my} {o} is {v}"],
        ["What is {my} {o}?", "What's {my} {o}?", "What was {my} {o}?", "Which is {my} {o}?", "{my} {o}?",
         "What did I say {my} {o} is?", "Give me {my} {o}."],
        "{your} {o} is {v}", "{my} {o}", "{your} {o}",
        ["Is {my} {o} {v}?", "Is {v} {my} {o}?"], ["{my} {o} is {v} now", "{my} new {o} is {v}"],
        [("What is {v}?", "{v} is {your} {o}")]),
    "the_number": K(
        ["the {o} is {v}", "remember the {o}: {v}", "the {o} is {v}, remember it",
         "please remember that the {o} is {v}",
         "{v} is the {o}", "note the {o}: {v}", "keep in mind that the {o} is {v}",
         "don't forget that the {o} is {v}"],
        ["What is the {o}?", "What's the {o}?", "What was the {o}?", "Give me the {o}.", "The {o}?",
         "Which is the {o}?",
         "What did I say the {o} is?", "I need the {o}."],
        "the {o} is {v}", "the {o}", "the {o}",
        ["Is the {o} {v}?", "Is {v} the {o}?"], ["the {o} is {v} now", "the new {o} is {v}"],
        [("What is {v}?", "{v} is the {o}")]),
    "event": K(
        ["{my} {o} is {v}", "{I} {have} {a_o} {o} {v}", "{my} {o} will be {v}", "remember that {my} {o} is {v}",
         "@there is {a_o} {o} for me {v}"],
        ["When is {my} {o}?", "When {do} {I} have {my2} {o}?", "When was {my} {o} again?", "When will {my} {o} be?",
         "When did I say {my} {o} is?"],
        "{your} {o} is {v}", "when {my} {o} is", "when {your} {o} is",
        ["Is {my} {o} {v}?"], ["{my} {o} was moved and is {v} now", "{my} {o} is {v} now"],
        [("What do I have {v}?", "{your} {o} is {v}"), ("What happens {v}?", "{your} {o} is {v}")]),
    "spot": K(
        ["{my} {o} {is} {v}", "{I} put {my2} {o} {v}", "{I} left {my2} {o} {v}", "{my} {o} {is} lying {v}",
         "{I} hid {my2} {o} {v}"],
        ["Where {is} {my} {o}?", "Where did {I} put {my2} {o}?", "Where did {I} leave {my2} {o}?",
         "Where can I find {my} {o}?", "Where {was} {my} {o}?", "Where did I say {my} {o} {is}?"],
        "{your} {o} {is} {v}", "where {my} {o} {is}", "where {your} {o} {is}",
        ["{is} {my} {o} {v}?"], ["{I} moved {my2} {o} and now {it_is} {v}", "{my} {o} {is} {v} now"],
        [("What is {v}?", "{your} {o} {is} {v}")]),
    "where": K(  # persons only
        ["{I} is {v}", "{I} is standing {v}", "{I} is waiting {v}", "{I} is sitting {v}"],
        ["Where is {I}?", "Where is {I} now?", "Where can I find {I}?", "Where did I say {I} is?"],
        "{you} is {v}", "where {I} is", "where {you} is",
        ["Is {I} {v}?"], ["{I} is {v} now", "now {I} is {v}"],
        [("Who is {v}?", "{you} is {v}")]),
    "count": K(
        ["{I} {have} {v} {o}", "{I} own{s} {v} {o}", "the number of {o} {I} {have} is {v}"],
        ["How many {o} {do} {I} have?", "How many {o} {do} {I} own?", "How many {o} did I say {I} {have}?"],
        "{you} {have} {v} {o}", "how many {o} {I} {have}", "how many {o} {you} {have}",
        ["{do2} {I} have {v} {o}?"], ["{I} {have} {v} {o} now"],
        [("Who has {v} {o}?", "{you} {have} {v} {o}")]),
    "like": K(
        ["{I} like{s} {v}", "{I} love{s} {v}", "{I} really like{s} {v}", "{I} {am} fond of {v}"],
        ["What {do} {I} like?", "What {do} {I} love?", "What did I say {I} like{s}?"],
        "{you} like{s} {v}", "what {I} like{s}", "what {you} like{s}",
        ["{do2} {I} like {v}?"], ["{I} like{s} {v} now"], [("Who likes {v}?", "{you} like{s} {v}")]),
    "dislike": K(
        ["{I} {dont} like {v}", "{I} hate{s} {v}", "{I} can't stand {v}", "{I} dislike{s} {v}"],
        ["What {do} {I} not like?", "What {do} {I} hate?", "What {do} {I} dislike?", "What can't {I} stand?"],
        "{you} {dont} like {v}", "what {I} {dont} like", "what {you} {dont} like",
        ["{do2} {I} hate {v}?"], (), [("Who hates {v}?", "{you} {dont} like {v}")]),
}
KINDS["the_word"] = KINDS["the_number"]
KINDS["my_word"] = KINDS["my_number"]

USER_KINDS = ("name name colour colour colour pet pet boat home origin age favourite favourite favourite job my_number "
              "my_number my_word my_word the_number the_word event spot spot count like dislike relation relation").split()
PERSON_KINDS = "colour colour pet home origin age favourite favourite job count event spot where like dislike".split()
