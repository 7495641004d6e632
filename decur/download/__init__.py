"""The download stage: archives are fetched, checked and unpacked into raw folders."""
