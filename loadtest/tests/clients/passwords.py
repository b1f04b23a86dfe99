"""Logging in where a token is configured, over both protocols. Ends with "all is well".

Needs PLIMSOLL_POSTGRES_PORT, PLIMSOLL_FLIGHT and PLIMSOLL_PASSWORD.
"""

import os

import adbc_driver_flightsql.dbapi as flight
import adbc_driver_manager
import psycopg
from adbc_driver_flightsql import DatabaseOptions

PORT = os.environ["PLIMSOLL_POSTGRES_PORT"]
URI = "grpc://" + os.environ["PLIMSOLL_FLIGHT"]
PASSWORD = os.environ["PLIMSOLL_PASSWORD"]


def postgres(password):
    with psycopg.connect(host="127.0.0.1", port=PORT, user="anyone", dbname="plimsoll", password=password) as connection:
        return connection.execute("SELECT 1").fetchone()[0]


def arrow(**options):
    with flight.connect(URI, db_kwargs=options, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return cursor.fetchone()[0]


def refused(call, *args, word, **options):
    try:
        call(*args, **options)
    except (psycopg.Error, adbc_driver_manager.Error) as error:
        assert word in str(error), error
        return
    raise AssertionError("it should have been refused")


if __name__ == "__main__":
    assert postgres(PASSWORD) == 1
    refused(postgres, "wrong", word="password authentication failed")
    refused(postgres, None, word="password")
    assert arrow(username="anyone", password=PASSWORD) == 1
    assert arrow(**{DatabaseOptions.AUTHORIZATION_HEADER.value: f"Bearer {PASSWORD}"}) == 1
    refused(arrow, word="asks for a token")
    refused(arrow, username="anyone", password="wrong", word="asks for a token")
    print("all is well")
