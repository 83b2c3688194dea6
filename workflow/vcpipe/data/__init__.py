"""Cells on disk: conversion, splits, vocabularies, stores. No torch here."""
