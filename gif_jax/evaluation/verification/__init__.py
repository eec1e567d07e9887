"""Verification sets (.bin): LFW, CFP, AgeDB, CALFW, CPLFW, RFW and their kin."""
