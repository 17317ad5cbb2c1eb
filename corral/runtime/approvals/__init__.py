"""Questions to humans once they are asked: answers, answers given ahead, deadlines, approvers."""
