"""What stands before, around and behind a fact or a question."""
ACKS = ["Got it.", "Okay.", "Noted.", "Okay, I'll remember that.", "I'll remember that.", "Thanks for telling me.",
        "Good to know.", "Okay, noted.", "Understood.", "Alright, I'll keep that in mind.", "I'll keep that in mind.",
        "All right.", "Thank you, I'll remember."]
LEADS = ["", "", "", "", "", "", "", "So, ", "Now, ", "And ", "Okay, ", "Hey, ", "Quick question: ", "One question: ",
         "By the way, ", "Tell me: ", "Please tell me: ", "Question: ", "Just checking: ", "Now tell me: ", "Well, ",
         "One more thing: ", "Again: ", "Hm, "]
WRAPS = [("Do you remember {}?", "Yes, "), ("Do you know {}?", "Yes, "), ("Do you still know {}?", "Yes, "),
         ("Can you tell me {}?", ""), ("Tell me {}.", ""), ("Please tell me {}.", ""), ("I forgot {}.", ""),
         ("Could you tell me {}?", ""), ("I can't remember {}.", ""), ("I'd like to know {}.", ""),
         ("Remember {}?", "Yes, "), ("Do you recall {}?", "Yes, "), ("Say {}.", ""), ("I want to know {}.", "")]
TELL_LEADS = ["", "", "", "", "", "", "", "", "Hi, ", "Hello, ", "By the way, ", "Also, ", "Just so you know, ",
              "Oh, ",
              "You should know that ", "Remember that ", "Remember: ", "Please remember that ", "Well, ", "Note that ",
              "Let me tell you something: ", "I want to tell you that ", "So, ", "FYI, ", "And "]
FIX_LEADS = ["Actually, ", "Actually ", "No wait, ", "Wait, ", "Sorry, ", "Correction: ", "I made a mistake: ",
             "I was wrong, ", "Something changed: ", "News: ", "Update: ", "No, ", "Change that: ", "Oh, ", ""]
SUBJECT_QUESTIONS = [
    "What is {}?", "What's {}?", "Explain {}.", "Can you tell me what {} is?", "Tell me about {}.", "Define {}.",
    "What is {} in Samepage?", "Do you know what {} is?", "{}?", "Please explain {} to me.", "What exactly is {}?",
    "I want to know what {} is.", "Could you explain {}?", "Describe {}.", "So what is {}?", "And what is {}?",
    "What is meant by {}?", "What does {} mean?", "Can you explain {}?", "Tell me what {} is.", "whats {}",
    "How would you explain {}?", "I don't know what {} is.", "In Samepage, what is {}?", "What do you mean by {}?",
    "What was {} again?", "In short, what is {}?", "Tell me more about {}.", "Give me a definition of {}.", "Sum up {}.",
    "I want to understand {}.", "What should I know about {}?", "Teach me what {} is.", "Help me understand {}.",
    "What is {}, in simple words?", "Say what {} is.", "I have a question: what is {}?", "What does {} do?"]
