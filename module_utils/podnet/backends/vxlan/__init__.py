"""VXLAN (RFC 7348): pods' packets travel in UDP between VTEPs."""
