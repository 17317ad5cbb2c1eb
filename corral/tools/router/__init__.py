"""Which of many tools an agent is offered: those that fit what it is asked."""
